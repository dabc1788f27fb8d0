//! As much of the protocol of Redis as a test needs to ask a server something.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Asks the server at `address`, on a connection of its own.
pub(super) async fn command(address: SocketAddr, words: &[&str]) -> Result<String> {
    let answered = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(encode(words).as_bytes()).await?;
        read(&mut BufReader::new(stream)).await
    };
    timeout(PATIENCE, answered).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

const PATIENCE: Duration = Duration::from_secs(5);

fn encode(words: &[&str]) -> String {
    let words: Vec<String> =
        words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{}", words.len(), words.concat())
}

/// One answer, whose items are read one after the other, however deep they are.
async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> Result<String> {
    let mut lines = Vec::new();
    let mut expected = 1;
    while expected > 0 {
        expected -= 1;
        let mut line = String::new();
        from.read_line(&mut line).await?;
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).ok_or(ErrorKind::UnexpectedEof)?;
        match kind {
            "+" | ":" | "-" => lines.push(rest.to_owned()),
            "*" => expected += number(rest)?.unwrap_or(0),
            "$" => lines.push(match number(rest)? {
                Some(length) => text(from, length).await?,
                None => String::new(),
            }),
            _ => return Err(Error::new(ErrorKind::InvalidData, format!("not RESP: {line}"))),
        }
    }
    Ok(lines.join("\n"))
}

/// `None` for the -1 of what is not there.
fn number(text: &str) -> Result<Option<usize>> {
    let number: i64 = text.parse().map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
    Ok(usize::try_from(number).ok())
}

async fn text(from: &mut (impl AsyncBufRead + Unpin), length: usize) -> Result<String> {
    let mut bytes = vec![0; length + 2];
    from.read_exact(&mut bytes).await?;
    bytes.truncate(length);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_kind_of_answer_is_read() {
        for (answer, text) in [
            ("+OK\r\n", "OK"),
            (":12\r\n", "12"),
            ("-ERR no\r\n", "ERR no"),
            ("$-1\r\n", ""),
            ("$5\r\na\r\nbc\r\n", "a\r\nbc"),
            ("*2\r\n*1\r\n$1\r\na\r\n$1\r\nb\r\n", "a\nb"),
            ("*-1\r\n", ""),
        ] {
            assert_eq!(read(&mut answer.as_bytes()).await.expect("an answer"), text, "{answer:?}");
        }
        assert!(read(&mut "?\r\n".as_bytes()).await.is_err());
        assert!(read(&mut "".as_bytes()).await.is_err());
    }

    #[test]
    fn a_command_is_a_list_of_its_words() {
        assert_eq!(encode(&["GET", "ab"]), "*2\r\n$3\r\nGET\r\n$2\r\nab\r\n");
    }
}
