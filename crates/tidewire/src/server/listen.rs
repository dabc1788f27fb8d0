//! Taking an address.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;

/// Connections the kernel holds for a listener until it accepts them. When a whole fleet comes back at
/// once, one that does not fit waits a second for the kernel's next try.
const BACKLOG: u32 = 4_096;

/// Bytes of a connection that the kernel holds beside what is on the wire.
#[cfg(target_os = "linux")]
const MOST_UNSENT: u32 = 128 * 1_024;

/// Whether others may listen on the address as well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sharing {
    Alone,
    /// The kernel spreads connections over the listeners, by the addresses and ports of both ends.
    Shared,
}

/// Listens on an address, on the current runtime.
pub(crate) fn on(address: SocketAddr) -> anyhow::Result<TcpListener> {
    bind(address, Sharing::Alone)?.listen(BACKLOG).with_context(|| refusal(address))
}

/// Listens on one address once for each runtime. Of port 0, all get the one that the first gets.
///
/// Whoever listens there already is found, as long as it is not starting at the same moment.
pub(crate) fn on_each(
    mut address: SocketAddr,
    runtimes: &[Handle],
) -> anyhow::Result<Vec<TcpListener>> {
    let sharing = if runtimes.len() > 1 { Sharing::Shared } else { Sharing::Alone };
    if sharing == Sharing::Shared {
        // Another node of the same user would share its address with us, and neither would notice.
        drop(bind(address, Sharing::Alone)?);
    }
    let mut listeners = Vec::new();
    for runtime in runtimes {
        let _of_runtime = runtime.enter();
        let listener = bind(address, sharing)?.listen(BACKLOG);
        let listener = listener.with_context(|| refusal(address))?;
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn bind(address: SocketAddr, sharing: Sharing) -> anyhow::Result<TcpSocket> {
    let bound = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        // A node that starts again must not wait for the connections of its last life to be over.
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(sharing == Sharing::Shared)?;
        bound_unsent(&socket)?;
        socket.bind(address)?;
        std::io::Result::Ok(socket)
    };
    bound().with_context(|| refusal(address))
}

/// Has the kernel take no more than [`MOST_UNSENT`] of what it cannot send yet, on every connection
/// that is accepted: otherwise it hides megabytes of what a slow client is behind with.
#[cfg(target_os = "linux")]
fn bound_unsent(socket: &TcpSocket) -> std::io::Result<()> {
    socket2::SockRef::from(socket).set_tcp_notsent_lowat(MOST_UNSENT)
}

#[cfg(not(target_os = "linux"))]
fn bound_unsent(_socket: &TcpSocket) -> std::io::Result<()> {
    Ok(())
}

fn refusal(address: SocketAddr) -> String {
    format!("cannot listen on {address}")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use tokio::net::TcpStream;
    use tokio::sync::mpsc;

    use super::*;
    use crate::server::threads::Threads;

    const ANY: &str = "127.0.0.1:0";

    fn threads(count: usize) -> Threads {
        Threads::start(NonZeroUsize::new(count).expect("not zero")).expect("threads")
    }

    fn any() -> SocketAddr {
        ANY.parse().expect("an address")
    }

    async fn accept_all(listener: TcpListener, accepted: mpsc::Sender<TcpStream>) {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            accepted.send(stream).await.expect("somebody counts");
        }
    }

    #[tokio::test]
    async fn all_listen_on_the_port_that_the_first_one_got_and_every_connection_reaches_one() {
        const CONNECTIONS: usize = 64;
        let threads = threads(3);
        let listeners = on_each(any(), threads.runtimes()).expect("listeners");
        let addresses: Vec<_> =
            listeners.iter().map(|listener| listener.local_addr().expect("address")).collect();
        let (accepted, mut accepting) = mpsc::channel(CONNECTIONS);
        for (runtime, listener) in threads.runtimes().iter().zip(listeners) {
            let accepted = accepted.clone();
            drop(runtime.spawn(accept_all(listener, accepted)));
        }

        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(TcpStream::connect(addresses[0]).await.expect("connected"));
        }
        let mut peers = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = accepting.recv().await.expect("accepted");
            peers.push(stream.peer_addr().expect("peer"));
        }

        assert_ne!(addresses[0].port(), 0);
        assert!(addresses.iter().all(|address| *address == addresses[0]), "{addresses:?}");
        let mut expected: Vec<_> =
            clients.iter().map(|client| client.local_addr().expect("address")).collect();
        expected.sort();
        peers.sort();
        assert_eq!(peers, expected);
        threads.end().await;
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_holds_little_of_what_a_client_does_not_read() {
        let listener = on(any()).expect("a listener");
        let address = listener.local_addr().expect("address");
        let client = TcpStream::connect(address).await.expect("connected");

        let (accepted, _) = listener.accept().await.expect("accepted");

        let most = socket2::SockRef::from(&accepted).tcp_notsent_lowat().expect("an option");
        assert_eq!(most, MOST_UNSENT, "those that are accepted have it of the listener");
        drop(client);
    }

    #[tokio::test]
    async fn an_address_that_somebody_has_is_refused_even_if_they_would_share_it() {
        let threads = threads(2);
        let listeners = on_each(any(), threads.runtimes()).expect("listeners");
        let taken = listeners[0].local_addr().expect("address");

        for refused in [on(taken).map(drop), on_each(taken, threads.runtimes()).map(drop)] {
            let error = format!("{:#}", refused.expect_err("taken"));
            assert!(error.starts_with(&format!("cannot listen on {taken}: ")), "{error}");
        }
        threads.end().await;
    }
}
