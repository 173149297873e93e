use std::sync::atomic::{AtomicU64, Ordering};

/// Why an entry was not taken, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The cipher says that it is not authentic, or it is another tenant's.
    AuthTamper,
    /// It is in plain where only ciphertext is accepted.
    SuspiciousEnvelope,
    /// Too short to be ciphertext, or damaged inside although it is authentic.
    Corruption,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::AuthTamper, Self::SuspiciousEnvelope, Self::Corruption];

    /// The name of the reason in metrics and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AuthTamper => "auth_tamper",
            Self::SuspiciousEnvelope => "suspicious_envelope",
            Self::Corruption => "corruption",
        }
    }
}

/// Where an entry was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// In this process.
    L1,
    /// In the shared layer.
    L2,
}

impl Tier {
    /// Both.
    pub const ALL: [Self; 2] = [Self::L1, Self::L2];

    /// The name of the layer in metrics and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
        }
    }
}

/// How many entries were refused, by reason and layer.
#[derive(Debug, Default)]
pub struct SecurityReport {
    refused: [[AtomicU64; 2]; 3],
    drift: AtomicU64,
}

impl SecurityReport {
    /// Counts a refused entry.
    pub fn refused(&self, why: Refusal, tier: Tier) {
        self.refused[why as usize][tier as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an encrypted entry that was read by a function which does not encrypt.
    pub fn drifted(&self) {
        self.drift.fetch_add(1, Ordering::Relaxed);
    }

    /// The entries refused for a reason in a layer.
    #[must_use]
    pub fn refusals(&self, why: Refusal, tier: Tier) -> u64 {
        self.refused[why as usize][tier as usize].load(Ordering::Relaxed)
    }

    /// The entries refused for any reason, in any layer.
    #[must_use]
    pub fn total(&self) -> u64 {
        let each = |why| Tier::ALL.map(|tier| self.refusals(why, tier));
        Refusal::ALL.into_iter().flat_map(each).sum()
    }

    /// The encrypted entries that were read by a function which does not encrypt.
    #[must_use]
    pub fn drift_reads(&self) -> u64 {
        self.drift.load(Ordering::Relaxed)
    }
}
