//! The keyspace answers as a real Redis does, byte for byte.

use std::time::Duration;

use tidewire_sim::{Command, Keyspace};
use tidewire_testkit::services::RedisServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Every command that the functions use, in the forms they use, and their mistakes.
const COMMANDS: &str = "
GET f
SET f one
GET f
HGET f a
XADD f 1-0 m x
DEL f nothing
GET f
HSET h a 1 b 2
HSET h a 3 c 4
HGET h a
HGET h z
HGET nothing a
HMGET h a z b
HMGET nothing a b
HSETNX h a 9
HSETNX h d 9
HDEL h d z
HVALS h
HVALS nothing
HDEL h a b c
HGET h a
HDEL h a
GET h
PEXPIREAT nothing 99999999999999
HSET e a 1
PEXPIREAT e 99999999999999 NX
PEXPIREAT e 99999999999998 NX
PEXPIREAT e 99999999999998
PEXPIREAT e 1
HGET e a
XADD l MAXLEN = 3 1-0 m a p b
XADD l MAXLEN = 3 1-0 m a p b
XADD l MAXLEN = 3 2-0 m c p d
XADD l MAXLEN = 3 3-0 m e p f
XADD l MAXLEN = 3 7-0 m g p h
XRANGE l - +
XRANGE l 2-0 3-0
XRANGE l (2-0 +
XRANGE l (2-0 + COUNT 1
XRANGE l 9-0 +
XRANGE l 3-0 2-0
XRANGE nothing - +
XREVRANGE l + -
XREVRANGE l + (2-0 COUNT 2
XREVRANGE l 3-0 -
XREVRANGE nothing + -
HGET l a
ZADD z 5 a
ZADD z 3 b
ZADD z 4 a
ZADD z 7 c
ZRANGEBYSCORE z -inf 4
ZRANGEBYSCORE z 4 +inf
ZRANGEBYSCORE nothing -inf 4
ZREM z a nothing
ZREM nothing a
ZRANGEBYSCORE z -inf 99
";

#[tokio::test]
async fn it_answers_as_redis_does() {
    let server = RedisServer::start().await;
    let address = server.url().replace("redis://", "");
    let mut real = TcpStream::connect(address.trim_end_matches('/')).await.expect("it listens");
    let mut keyspace = Keyspace::default();

    for line in COMMANDS.lines().filter(|line| !line.is_empty()) {
        let command: Command = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let mut expected = Vec::new();
        keyspace.apply(&command, 1_790_000_000_000).encode(&mut expected);

        let mut bytes = vec![0; expected.len()];
        real.write_all(&as_request(&command)).await.expect("it reads");
        let done = timeout(Duration::from_secs(5), real.read_exact(&mut bytes)).await;

        let (answer, expected) =
            (String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&expected));
        assert!(done.is_ok(), "{line}: {answer:?} is shorter than {expected:?}");
        assert_eq!(answer, expected, "{line}");
    }
}

fn as_request(command: &Command) -> Vec<u8> {
    let mut request = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
    request
}
