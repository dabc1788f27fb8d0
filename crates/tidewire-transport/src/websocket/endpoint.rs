use std::io;

use bytes::{Buf, Bytes};
use tidewire_protocol::Frame;

use super::close::{Close, CloseCode};
use super::codec::{Decoder, Incoming, Limits, Role};
use super::deflate::{Deflate, Deflater, Inflater};
use super::outgoing::Outgoing;
use super::violation::Violation;
use crate::transport::TransportError;

/// One end of a WebSocket without its stream: what came in, what is to go out, how it ended.
#[derive(Debug)]
pub(crate) struct Endpoint {
    decoder: Decoder,
    pub(crate) outgoing: Outgoing,
    ending: Option<Ending>,
    /// What has been read and not yet decoded.
    unread: Option<Box<Bytes>>,
    deflate: Option<Deflate>,
}

impl Endpoint {
    pub(crate) fn new(role: Role, limits: Limits, unread: Bytes) -> Self {
        Self {
            decoder: Decoder::new(role, limits),
            outgoing: Outgoing::new(role),
            ending: None,
            unread: (!unread.is_empty()).then(|| Box::new(unread)),
            deflate: None,
        }
    }

    /// The same, speaking permessage-deflate if it was agreed on.
    pub(crate) fn deflated(self, deflate: Option<Deflate>) -> Self {
        let Some(deflate) = deflate else { return self };
        Self { decoder: self.decoder.deflated(), deflate: Some(deflate), ..self }
    }

    pub(crate) fn deflate(&self) -> Option<Deflate> {
        self.deflate
    }

    /// Why nothing more will be received, if so.
    pub(crate) fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Bytes held for a frame or a message that has begun and is not complete; `None` if none is.
    pub(crate) fn unfinished(&self) -> Option<usize> {
        self.decoder.has_begun().then(|| self.decoder.held())
    }

    /// Forgets it, and what was read behind it.
    pub(crate) fn forget_unfinished(&mut self) {
        self.decoder.forget();
        self.unread = None;
    }

    /// Whether something was read that has not been decoded.
    pub(crate) fn has_unread(&self) -> bool {
        self.unread.is_some()
    }

    /// Bytes that were read and have not been handed out, as memory held for them.
    pub(crate) fn held(&self) -> usize {
        self.decoder.held() + self.unread.as_ref().map_or(0, |unread| unread.len())
    }

    /// The stream has ended, or failed.
    pub(crate) fn lose(&mut self) {
        self.ending = Some(Ending::Lost);
        self.unread = None;
    }

    /// Decodes what an earlier call left over; whether there was anything.
    pub(crate) fn digest_unread<F: Extend<Frame>>(
        &mut self,
        intake: &mut Intake<'_, F>,
    ) -> io::Result<bool> {
        let Some(mut unread) = self.unread.take() else { return Ok(false) };
        let mut input = &unread[..];
        self.digest(&mut input, intake)?;
        let digested = unread.len() - input.len();
        unread.advance(digested);
        if !unread.is_empty() && self.ending.is_none() {
            self.unread = Some(unread);
        }
        Ok(true)
    }

    /// Decodes what has just been read, and keeps what the intake has no room for.
    pub(crate) fn digest_read<F: Extend<Frame>>(
        &mut self,
        read: &[u8],
        intake: &mut Intake<'_, F>,
    ) -> io::Result<()> {
        let mut input = read;
        self.digest(&mut input, intake)?;
        if !input.is_empty() && self.ending.is_none() {
            self.unread = Some(Box::new(Bytes::copy_from_slice(input)));
        }
        Ok(())
    }

    /// Queues `frames`.
    ///
    /// # Errors
    ///
    /// [`TransportError::Closed`] if nothing can follow what is queued already.
    pub(crate) fn queue(
        &mut self,
        frames: &[Frame],
        deflater: &mut Deflater,
    ) -> Result<(), TransportError> {
        self.check_open()?;
        Ok(self.outgoing.frames(frames, self.deflate, deflater)?)
    }

    /// Queues `frames` before all that has not begun, if there is room for that, or else behind it.
    ///
    /// # Errors
    ///
    /// As `queue`.
    pub(crate) fn queue_urgent(
        &mut self,
        frames: &[Frame],
        deflater: &mut Deflater,
    ) -> Result<(), TransportError> {
        let bytes = frames.iter().map(|frame| frame.bytes().len()).sum();
        if !self.outgoing.has_room_for_urgent(bytes) {
            return self.queue(frames, deflater);
        }
        self.check_open()?;
        Ok(self.outgoing.urgent(frames)?)
    }

    pub(crate) fn check_open(&self) -> Result<(), TransportError> {
        if self.outgoing.is_closing() || matches!(self.ending, Some(Ending::Lost)) {
            return Err(TransportError::Closed);
        }
        Ok(())
    }

    /// Decodes `input` until it is used up, the intake is full or the peer has ended.
    fn digest<F: Extend<Frame>>(
        &mut self,
        input: &mut &[u8],
        intake: &mut Intake<'_, F>,
    ) -> io::Result<()> {
        while intake.room > 0 && self.ending.is_none() {
            match self.decoder.decode(input, intake.inflater) {
                Ok(None) => break,
                Ok(Some(Incoming::Frame(frame))) => intake.take(frame),
                Ok(Some(Incoming::Ping(payload))) => {
                    intake.take_control(|controls| &mut controls.pings);
                    self.outgoing.pong(payload)?;
                }
                Ok(Some(Incoming::Pong(_))) => {
                    intake.take_control(|controls| &mut controls.pongs);
                }
                Ok(Some(Incoming::Close(close))) => {
                    self.end(Ending::Closed(close.map(Box::new)))?;
                }
                Err(violation) => self.end(Ending::Broken(violation))?,
            }
        }
        Ok(())
    }

    /// A close is answered with its own code (RFC 6455 section 5.5.1), a violation by the owner.
    fn end(&mut self, ending: Ending) -> io::Result<()> {
        if let Ending::Closed(close) = &ending {
            self.outgoing.close(close.as_ref().map(|close| (close.code, "")))?;
        }
        self.ending = Some(ending);
        Ok(())
    }

    /// What the peer's close frame said; `None` if it has not closed, or without giving a code.
    pub(crate) fn peer_close(&self) -> Option<&Close> {
        match &self.ending {
            Some(Ending::Closed(close)) => close.as_deref(),
            _ => None,
        }
    }

    pub(crate) fn is_closed_by_peer(&self) -> bool {
        matches!(self.ending, Some(Ending::Closed(_)))
    }

    pub(crate) fn close(&mut self, code: CloseCode, reason: &str) -> io::Result<()> {
        self.outgoing.close(Some((code, reason)))
    }
}

/// Where received frames go, and how many more may come, those among them that go nowhere.
pub(crate) struct Intake<'a, F> {
    pub(crate) frames: &'a mut F,
    pub(crate) room: usize,
    pub(crate) inflater: &'a mut Inflater,
    pub(crate) controls: Controls,
}

impl<'a, F: Extend<Frame>> Intake<'a, F> {
    pub(crate) fn new(frames: &'a mut F, room: usize, inflater: &'a mut Inflater) -> Self {
        Self { frames, room, inflater, controls: Controls::default() }
    }

    fn take(&mut self, frame: Frame) {
        self.frames.extend(Some(frame));
        self.room -= 1;
    }

    fn take_control(&mut self, kind: impl FnOnce(&mut Controls) -> &mut u32) {
        *kind(&mut self.controls) += 1;
        self.room -= 1;
    }
}

/// Control frames that were received, beside a close.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Controls {
    pub pings: u32,
    pub pongs: u32,
}

/// Why nothing more will be received.
#[derive(Debug)]
pub(crate) enum Ending {
    Closed(Option<Box<Close>>),
    Broken(Violation),
    /// The stream ended without a close frame.
    Lost,
}
