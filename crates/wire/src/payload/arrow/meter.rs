use super::{ArrowError, Size, int64, message};

/// Tells of an Arrow IPC file, as it is written, whether [`check_arrow`](super::check_arrow) will take it.
///
/// It follows the messages one after the other, as writers make them, and keeps one at a time: what a
/// reader is given goes by the footer, and may not be what was written.
#[derive(Default)]
pub struct ArrowMeter {
    stored: u64,
    size: Size,
    next: Next,
    /// Of what comes next, the bytes that have come.
    pending: Vec<u8>,
    /// The bytes to pass over before it comes.
    skip: u64,
    /// The rest of the body that is being written: where its compressed buffers start, from here on, and
    /// where it ends.
    heads: std::vec::IntoIter<u64>,
    end: u64,
    /// The place in the body behind what comes next.
    at: u64,
}

/// What comes next, after what is passed over.
#[derive(Default, Clone, Copy)]
enum Next {
    /// The file's first bytes.
    #[default]
    Magic,
    /// The length of a message, behind four bytes of ones.
    Length,
    /// A message of so many bytes.
    Message(usize),
    /// The start of a compressed buffer.
    Head,
    /// The footer, which repeats what was said.
    Footer,
}

impl Next {
    const fn len(self) -> usize {
        match self {
            Self::Magic | Self::Length | Self::Head => 8,
            Self::Message(len) => len,
            Self::Footer => usize::MAX,
        }
    }
}

impl ArrowMeter {
    /// Takes in the next part of the file.
    ///
    /// # Errors
    /// [`ArrowError::Malformed`] for what no writer makes.
    pub fn add(&mut self, mut part: &[u8]) -> Result<(), ArrowError> {
        self.stored = self.stored.saturating_add(part.len() as u64);
        loop {
            let skipped =
                usize::try_from(self.skip).map_or(part.len(), |skip| skip.min(part.len()));
            part = &part[skipped..];
            self.skip -= skipped as u64;
            if part.is_empty() || matches!(self.next, Next::Footer) {
                return Ok(());
            }
            let (taken, rest) = part.split_at(part.len().min(self.next.len() - self.pending.len()));
            self.pending.extend_from_slice(taken);
            part = rest;
            if self.pending.len() == self.next.len() {
                let pending = std::mem::take(&mut self.pending);
                self.next = self.step(&pending).ok_or(ArrowError::Malformed)?;
            }
        }
    }

    /// Whether the file that has been written is read again.
    ///
    /// # Errors
    /// [`ArrowError`] where it is not.
    pub fn finish(&self) -> Result<(), ArrowError> {
        match self.next {
            Next::Footer => self.size.check(self.stored),
            _ => Err(ArrowError::Malformed),
        }
    }

    /// What comes after `pending`; `None` where it is not what was to come.
    fn step(&mut self, pending: &[u8]) -> Option<Next> {
        match self.next {
            Next::Magic => Some(Next::Length),
            Next::Length => {
                let len = pending.strip_prefix(&[0xff; 4])?;
                let len = i32::from_le_bytes(len.try_into().ok()?);
                Some(match usize::try_from(len).ok()? {
                    0 => Next::Footer,
                    len => Next::Message(len),
                })
            }
            Next::Message(len) => {
                let whole = [&(len as u32).to_le_bytes()[..], pending].concat();
                let message = message(&whole)?;
                // Message: 1 kind of the header, of which 1 is the schema; 3 length of the body.
                let mut heads = match message.byte(1)? {
                    1 => Vec::new(),
                    _ => self.size.add(message)?,
                };
                heads.sort_unstable();
                self.heads = heads.into_iter();
                self.end = u64::try_from(message.int64(3)?).ok()?;
                self.at = 0;
                self.within_body()
            }
            Next::Head => {
                self.size.announce(int64(pending, 0)?)?;
                self.within_body()
            }
            Next::Footer => None,
        }
    }

    /// Goes to the next compressed buffer of the body, or behind it.
    fn within_body(&mut self) -> Option<Next> {
        let head = self.heads.next();
        self.skip = head.unwrap_or(self.end).checked_sub(self.at)?;
        self.at = head.unwrap_or(self.end) + 8;
        Some(head.map_or(Next::Length, |_| Next::Head))
    }
}
