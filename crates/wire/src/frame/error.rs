/// Why stored bytes are not a frame that can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Written by a later version of the protocol: a miss, but not ours to delete.
    #[error(
        "the entry has frame version {version}, this reader knows up to 3; it is left to newer readers"
    )]
    Newer {
        /// The frame version found.
        version: u8,
    },
    /// A frame version that was never used for values.
    #[error("the entry has frame version {version}, which is not one of a value")]
    Older {
        /// The frame version found.
        version: u8,
    },
    /// Neither a frame nor the JSON form before frames.
    #[error(
        "the entry is not a CacheKit value: it starts with neither the frame's magic nor a JSON object"
    )]
    NotAFrame,
    /// The bytes end before the payload starts.
    #[error("the entry is truncated: it has {have} bytes where its header needs {need}")]
    Truncated {
        /// Bytes present.
        have: usize,
        /// Bytes that preamble and header take.
        need: usize,
    },
    /// The JSON header cannot be read.
    #[error("the entry's header is {problem} at column {column}")]
    BadHeader {
        /// What was wrong; never a part of the header.
        problem: &'static str,
        /// The column of the JSON text where that was noticed, from 1; 0 if there is no one place.
        column: usize,
    },
    /// The JSON form before frames, with a payload that is not base64.
    #[error("the entry's payload is not base64 at byte {position}")]
    BadBase64 {
        /// The offset within the base64 text.
        position: usize,
    },
}

impl From<serde_json::Error> for FrameError {
    /// Keeps the place and drops the text, which may quote a tenant or a value.
    fn from(error: serde_json::Error) -> Self {
        let problem = match error.classify() {
            serde_json::error::Category::Data => "JSON of another shape",
            _ => "not JSON",
        };
        Self::BadHeader {
            problem,
            column: error.column(),
        }
    }
}
