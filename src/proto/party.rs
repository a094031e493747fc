//! Who the ends of a connection are, and whether they understand each other.

use super::wire::Identity;

/// Who somebody is, kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Party {
    pub(crate) codec: String,
    pub(crate) service: String,
    pub(crate) fingerprint: u64,
    pub(crate) version: String,
    pub(crate) max_message: u32,
    pub(crate) max_in_flight: u32,
    pub(crate) features: u64,
}

impl Party {
    #[inline]
    pub(crate) fn identity(&self) -> Identity<'_> {
        Identity {
            codec: &self.codec,
            service: &self.service,
            fingerprint: self.fingerprint,
            version: &self.version,
            max_message: self.max_message,
            max_in_flight: self.max_in_flight,
            features: self.features,
        }
    }

    /// The largest message to send there; any size to somebody who does not say.
    #[inline]
    pub(crate) fn takes(&self) -> u32 {
        match self.max_message {
            0 => u32::MAX,
            limit => limit,
        }
    }
}

impl From<Identity<'_>> for Party {
    fn from(identity: Identity<'_>) -> Self {
        Party {
            codec: identity.codec.to_owned(),
            service: identity.service.to_owned(),
            fingerprint: identity.fingerprint,
            version: identity.version.to_owned(),
            max_message: identity.max_message,
            max_in_flight: identity.max_in_flight,
            features: identity.features,
        }
    }
}

/// Whether two parties understand each other's requests. A fingerprint of 0 is that of somebody who does not say.
pub(crate) fn compatible(ours: &Identity<'_>, theirs: &Identity<'_>) -> bool {
    ours.codec == theirs.codec
        && ours.service == theirs.service
        && (ours.fingerprint == theirs.fingerprint
            || ours.fingerprint == 0
            || theirs.fingerprint == 0)
}
