//! [`CodecError`]: why a value could not be written, or could not be read.

use std::fmt::{self, Display, Write};

/// Why a value could not be written, or could not be read.
///
/// The texts are for people: they tell what a format found wrong, and may change with it. They hold no more than
/// 256 bytes, also where they quote what the peer has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes are not a value of this type; the text says where it shows.
    Malformed(String),
    /// The value has more levels inside one another than [`MAX_DEPTH`](crate::codec::MAX_DEPTH).
    TooDeep {
        /// The limit, in levels.
        limit: usize,
    },
    /// The value claims more elements than a message of this size can hold.
    TooManyElements {
        /// The limit, in elements: the message's bytes and [`SPARE_ELEMENTS`](crate::codec::SPARE_ELEMENTS).
        limit: usize,
    },
    /// The value takes more memory than a message of this size may have: see [the limits](crate::codec#memory).
    TooMuchMemory {
        /// The limit, in bytes: [`max_memory`](crate::codec::max_memory) of the message's.
        limit: usize,
    },
    /// Bytes are left after the value.
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The value cannot be written; the text says why.
    Encode(String),
}

/// What is kept of a text that a format or a type gives, in bytes. It may quote what a peer has sent, at any length.
const MAX_TEXT: usize = 256;

impl CodecError {
    #[cold]
    pub(super) fn malformed(what: impl Display) -> CodecError {
        CodecError::Malformed(text(what))
    }

    #[cold]
    pub(super) fn unwritable(what: impl Display) -> CodecError {
        CodecError::Encode(text(what))
    }
}

impl Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::Malformed(what) => write!(f, "the bytes are not such a value: {what}"),
            CodecError::TooDeep { limit } => {
                write!(f, "the value is more than {limit} levels deep")
            }
            CodecError::TooManyElements { limit } => write!(
                f,
                "the value claims more than the {limit} elements that its message can hold"
            ),
            CodecError::TooMuchMemory { limit } => write!(
                f,
                "the value takes more than the {limit} bytes of memory that its message may have"
            ),
            CodecError::Trailing { bytes: 1 } => f.write_str("1 byte is left after the value"),
            CodecError::Trailing { bytes } => write!(f, "{bytes} bytes are left after the value"),
            CodecError::Encode(what) => write!(f, "the value cannot be encoded: {what}"),
        }
    }
}

impl std::error::Error for CodecError {}

/// The first [`MAX_TEXT`] bytes of what is displayed. The rest is not even formatted.
fn text(what: impl Display) -> String {
    struct Start(String);

    impl Write for Start {
        fn write_str(&mut self, more: &str) -> fmt::Result {
            let mut end = more.len().min(MAX_TEXT - self.0.len());
            while !more.is_char_boundary(end) {
                end -= 1;
            }
            self.0.push_str(&more[..end]);
            if end < more.len() {
                return Err(fmt::Error);
            }
            Ok(())
        }
    }

    let mut start = Start(String::new());
    // The error is that of a full buffer, or of a `Display` that gives up: what there is will do for both.
    let _ = write!(start, "{what}");
    start.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_off_between_characters() {
        assert_eq!(text("short"), "short");
        assert_eq!(text("a".repeat(1 << 20)).len(), MAX_TEXT);
        // Two bytes each, so that the limit falls into the middle of one.
        let cut = text(format_args!("x{}", "ä".repeat(1000)));
        assert_eq!(cut.len(), MAX_TEXT - 1);
        assert!(cut.ends_with('ä'));
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        for (error, says) in [
            (CodecError::Malformed("why".into()), "why"),
            (CodecError::TooDeep { limit: 7 }, "7 levels"),
            (CodecError::TooManyElements { limit: 9 }, "9 elements"),
            (CodecError::TooMuchMemory { limit: 9 }, "9 bytes of memory"),
            (CodecError::Trailing { bytes: 1 }, "1 byte is left"),
            (CodecError::Trailing { bytes: 3 }, "3 bytes are left"),
            (CodecError::Encode("why".into()), "why"),
        ] {
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
