//! A WebSocket server that sends every message back, for a conformance suite to talk to.
//!
//! Serves its connections the way the edge does: the upgrade, then a [`Link`] driven by a poll.
//! `cargo run --release -p tidewire-transport --example echo` prints the port of loopback it chose.

#![expect(clippy::print_stdout, reason = "printing the port is how a suite finds it")]

use std::cell::RefCell;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mio::{Events, Poll, Token};
use tidewire_transport::{Compression, Flushed, Limits, Link, LinkSettings};
use tidewire_transport::{Received, Scratch, Stream, Then, TransportError, upgrade};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Autobahn's chapter 9 sends 16 MiB in one message, and 4 MiB in fragments of 64 bytes.
const LIMITS: Limits = Limits { message_bytes: 16 << 20, fragments: 1 << 17 };

/// What a client that requests no subprotocol gets.
const SUBPROTOCOLS: [&str; 1] = ["echo"];

/// How long a client whose fault ends the connection may go on sending.
const GOODBYE: Duration = Duration::from_secs(2);

/// Messages echoed before the next are decoded.
const MOST_FRAMES: usize = 32;

/// A connection has one stream, so a few events are all there are.
const EVENTS: usize = 4;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?.port());

    let scratch = RefCell::new(Scratch::default());
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => connections.push(serve(accepted?.0, &scratch)),
            // How a connection ended is for its client to judge.
            Some(_) = connections.next() => {}
        }
    }
}

async fn serve(stream: TcpStream, scratch: &RefCell<Scratch>) -> Result<(), Box<dyn Error>> {
    stream.set_nodelay(true)?;
    let Some(link) = accept(stream).await? else { return Ok(()) };
    let mut echo = Echo::new(link)?;
    match echo.run(scratch).await? {
        Turn::Refused => timeout(GOODBYE, echo.drain(scratch)).await??,
        Turn::Ended | Turn::Drained => {}
    }
    Ok(())
}

/// The link of a client that asked for one and was not refused.
async fn accept(stream: TcpStream) -> Result<Option<Link>, Box<dyn Error>> {
    let agreed = RefCell::new(None);
    let service = service_fn(|mut request| {
        let response = match upgrade(&mut request, &SUBPROTOCOLS, Compression::On) {
            Ok(upgrade) => {
                *agreed.borrow_mut() = Some((upgrade.upgrading, upgrade.deflate));
                upgrade.response.map(|()| String::new())
            }
            Err(error) => error.response(),
        };
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    connection.with_upgrades().await?;
    let Some((upgrading, deflate)) = agreed.take() else { return Ok(None) };
    let (stream, unread) = upgrading.parts::<TcpStream>().await?;
    let settings = LinkSettings { limits: LIMITS, deflate };
    Ok(Some(Link::new(Stream::try_from(stream)?, unread, settings)))
}

/// One client and the poll that watches it.
struct Echo {
    link: Link,
    poll: AsyncFd<Poll>,
    events: Events,
}

/// How far a client has been served.
enum Turn {
    /// Until the next event.
    Drained,
    /// It has closed, or vanished.
    Ended,
    /// It broke the protocol, and has been told.
    Refused,
}

impl Echo {
    fn new(mut link: Link) -> Result<Self, Box<dyn Error>> {
        let poll = Poll::new()?;
        link.register(poll.registry(), Token(0))?;
        Ok(Self { link, poll: watch(poll)?, events: Events::with_capacity(EVENTS) })
    }

    /// Sends everything back until the connection is over, and says that nothing follows.
    async fn run(&mut self, scratch: &RefCell<Scratch>) -> Result<Turn, Box<dyn Error>> {
        let over = loop {
            match self.take_turn(&mut scratch.borrow_mut())? {
                Turn::Drained => {}
                over => break over,
            }
            self.wait().await?;
        };
        while self.link.flush(&mut scratch.borrow_mut())? == Flushed::Blocked {
            self.wait().await?;
        }
        self.link.shutdown_write()?;
        Ok(over)
    }

    fn take_turn(&mut self, scratch: &mut Scratch) -> Result<Turn, TransportError> {
        let mut frames = Vec::new();
        // A client that does not read its echoes is not read from either.
        while self.link.flush(scratch)? == Flushed::All {
            let then = match self.link.receive(scratch, MOST_FRAMES, &mut frames) {
                Ok(Received { then, .. }) => then,
                Err(error) => {
                    let disconnect = error.disconnect().ok_or(error)?;
                    self.link.close(disconnect.into(), "");
                    return Ok(Turn::Refused);
                }
            };
            match self.link.queue(&frames, scratch) {
                // What came just before its close is not echoed: the close has been answered.
                Ok(()) | Err(TransportError::Closed) => frames.clear(),
                Err(error) => return Err(error),
            }
            match then {
                Then::More => {}
                Then::Drained => break,
                Then::Ended => return Ok(Turn::Ended),
            }
        }
        self.link.flush(scratch)?;
        Ok(Turn::Drained)
    }

    /// Reads what a client that broke the protocol still sends, until it hangs up.
    async fn drain(&mut self, scratch: &RefCell<Scratch>) -> Result<(), Box<dyn Error>> {
        loop {
            let drained = self.link.drain(&mut scratch.borrow_mut())?;
            match drained.then {
                Then::More => {}
                Then::Drained => self.wait().await?,
                Then::Ended => return Ok(()),
            }
        }
    }

    async fn wait(&mut self) -> Result<(), Box<dyn Error>> {
        let mut ready = self.poll.readable_mut().await?;
        ready.get_inner_mut().poll(&mut self.events, Some(Duration::ZERO))?;
        ready.clear_ready();
        if self.events.iter().any(mio::event::Event::is_read_closed) {
            self.link.note_read_closed();
        }
        Ok(())
    }
}

/// Lets the runtime wait for what a poll has.
#[expect(deprecated, reason = "sound here: what is watched owns the descriptor it is watched by")]
fn watch(poll: Poll) -> io::Result<AsyncFd<Poll>> {
    AsyncFd::with_interest(poll, Interest::READABLE)
}
