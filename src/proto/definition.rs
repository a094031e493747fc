//! [`Definition`]: what a service is to its peers.

#![allow(missing_docs, reason = "it is for `service!` alone")]

/// What a service is to its peers.
#[derive(Debug)]
pub struct Definition {
    pub name: &'static str,
    pub version: &'static str,
    pub methods: &'static [&'static str],
    pub fingerprint: u64,
}
