use tidewire_protocol::Frame;

/// Puts the parts that are to be sent (events or commands) together into as few frames as hold them.
pub(crate) struct Assembly<'a> {
    framing: Framing,
    soft_limit: usize,
    max_parts: usize,
    frames: &'a mut Vec<Frame>,
    buffer: Vec<u8>,
    parts: usize,
}

/// How parts become a frame.
#[derive(Clone, Copy)]
pub(crate) enum Framing {
    /// One object stands bare, several stand in an array.
    Json,
    /// Parts stand end to end; each begins with its own field tag.
    Protobuf,
}

impl Framing {
    pub(crate) fn frame(self, bytes: bytes::Bytes) -> Frame {
        match self {
            Self::Json => Frame::Text(bytes),
            Self::Protobuf => Frame::Binary(bytes),
        }
    }
}

impl<'a> Assembly<'a> {
    /// Starts another frame as soon as one holds `soft_limit` bytes.
    pub(crate) fn new(framing: Framing, soft_limit: usize, frames: &'a mut Vec<Frame>) -> Self {
        let buffer = Vec::new();
        Self { framing, soft_limit, max_parts: usize::MAX, frames, buffer, parts: 0 }
    }

    /// Starts another frame as soon as one holds `max_parts` parts, too.
    pub(crate) fn at_most(self, max_parts: usize) -> Self {
        Self { max_parts, ..self }
    }

    /// Begins a part: the caller appends all of it.
    pub(crate) fn part(&mut self) -> &mut Vec<u8> {
        if self.parts == self.max_parts || self.buffer.len() >= self.soft_limit {
            self.flush();
        }
        if matches!(self.framing, Framing::Json) {
            self.buffer.push(if self.parts == 0 { b'[' } else { b',' });
        }
        self.parts += 1;
        &mut self.buffer
    }

    pub(crate) fn soft_limit(&self) -> usize {
        self.soft_limit
    }

    /// Completes the last frame.
    pub(crate) fn finish(mut self) {
        self.flush();
    }

    fn flush(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let bytes = match (self.framing, std::mem::take(&mut self.parts)) {
            (_, 0) => return,
            // The bracket before a lone object is left out.
            (Framing::Json, 1) => bytes::Bytes::from(buffer).slice(1..),
            (Framing::Json, _) => {
                buffer.push(b']');
                buffer.into()
            }
            (Framing::Protobuf, _) => buffer.into(),
        };
        self.frames.push(self.framing.frame(bytes));
    }
}
