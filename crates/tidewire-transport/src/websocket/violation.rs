use tidewire_model::Disconnect;

/// How a peer broke the protocol.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    #[error("reserved bits are set and no extension was agreed")]
    ReservedBits,
    #[error("opcode is reserved")]
    ReservedOpCode,
    #[error("client sent a frame without a mask")]
    Unmasked,
    #[error("server sent a masked frame")]
    Masked,
    #[error("control frame is fragmented")]
    FragmentedControl,
    #[error("control frame is longer than 125 bytes")]
    ControlTooLong,
    #[error("payload length is not written in its shortest form")]
    LengthEncoding,
    #[error("continuation of no message")]
    UnexpectedContinuation,
    #[error("new message inside a fragmented one")]
    InterruptedMessage,
    #[error("message has too many fragments")]
    TooManyFragments,
    #[error("message is too large")]
    MessageTooLarge,
    #[error("text is not valid utf-8")]
    InvalidUtf8,
    #[error("compressed message cannot be restored")]
    BadCompression,
    #[error("close frame has half a code")]
    CloseLength,
    #[error("close code may not be sent")]
    CloseCode,
}

impl Violation {
    /// How a connection ends that this happened to.
    pub fn disconnect(self) -> Disconnect {
        match self {
            Self::TooManyFragments | Self::MessageTooLarge => Disconnect::MessageTooLarge,
            // The only reason with code 1007, which is for data that is not what it says it is.
            Self::InvalidUtf8 | Self::BadCompression => Disconnect::InvalidUtf8,
            _ => Disconnect::ProtocolError,
        }
    }
}
