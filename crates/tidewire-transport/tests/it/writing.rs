use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tidewire_transport::{Limits, Role, Transport, WebSocket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::wire::{self, BINARY, TEXT, Wire, binary, text};

#[tokio::test]
async fn many_small_frames_take_one_write() {
    let mut socket = socket(Recorder::default());
    let frames: Vec<_> = (0..100).map(|n| text(&n.to_string())).collect();

    socket.send(&frames).await.unwrap();

    let expected: Vec<_> = (0..100).map(|n| Wire::plain(TEXT, n.to_string())).collect();
    assert_eq!(socket.stream().written, wire::join(&expected));
    assert_eq!(socket.stream().writes, 1);
}

#[tokio::test]
async fn large_payloads_are_written_from_where_they_lie() {
    let mut socket = socket(Recorder::default());
    let shared = Bytes::from(vec![7; 10_000]);

    let frames = [tidewire_protocol::Frame::Binary(shared.clone()), text("small")];
    socket.send(&frames).await.unwrap();

    assert!(socket.stream().sources.contains(&shared.as_ptr().addr()));
    assert_eq!(socket.stream().writes, 1);
}

#[tokio::test]
async fn a_stream_that_takes_little_at_a_time_gets_everything_in_order() {
    for step in [1, 2, 3, 1000, 1023, 4096] {
        let mut socket = socket(Recorder { step: Some(step), ..Recorder::default() });
        let frames: Vec<_> = (0..50_u8).map(|n| binary(&vec![n; usize::from(n) * 47])).collect();

        socket.send(&frames).await.unwrap();

        let expected: Vec<_> =
            (0..50_u8).map(|n| Wire::plain(BINARY, vec![n; usize::from(n) * 47])).collect();
        assert_eq!(socket.stream().written, wire::join(&expected), "{step} bytes at a time");
    }
}

#[tokio::test]
async fn more_slices_than_one_write_takes_are_spread_over_several() {
    let mut socket = socket(Recorder::default());
    let frames: Vec<_> = (0..100).map(|_| binary(&[3; 2000])).collect();

    socket.send(&frames).await.unwrap();

    let expected: Vec<_> = (0..100).map(|_| Wire::plain(BINARY, [3; 2000])).collect();
    assert_eq!(socket.stream().written, wire::join(&expected));
}

fn socket(stream: Recorder) -> WebSocket<Recorder> {
    WebSocket::new(stream, Bytes::new(), Role::Server, Limits::default())
}

/// A stream that takes what is written, and remembers how.
#[derive(Debug, Default)]
struct Recorder {
    step: Option<usize>,
    written: Vec<u8>,
    writes: usize,
    sources: Vec<usize>,
}

impl AsyncWrite for Recorder {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let before = self.written.len();
        let mut left = self.step.unwrap_or(usize::MAX);
        self.writes += 1;
        for slice in slices {
            self.sources.push(slice.as_ptr().addr());
            let taken = slice.len().min(left);
            self.written.extend_from_slice(&slice[..taken]);
            left -= taken;
        }
        Poll::Ready(Ok(self.written.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Recorder {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}
