//! placeholder docs, to be written

mod access;
mod deadline;
mod error;
mod local;
pub mod memory;
mod name;
mod options;
mod peer;
mod transport;

// What a platform must supply, in `src/NAME.rs`, in this order:
//
//   current_user() -> io::Result<UserId>                       whom this process runs as
//   system_name(String) -> io::Result<Name>                    the machine's name for a portable one
//   per_user_name(String) -> io::Result<String>                the user's own name for a portable one
//   bind(&ListenOptions, &Name) -> io::Result<Listener>
//   connect(&ConnectOptions, &Name, Deadline) -> io::Result<Stream>
//   Listener                    the trait, and access()
//   Stream                      the trait, and impersonate()
//
// `tests/mirror.rs` holds the platforms to it.
cfg_if::cfg_if! {
    if #[cfg(windows)] {
        mod windows;
        use windows as sys;
    } else if #[cfg(unix)] {
        mod unix;
        use unix as sys;
    } else {
        compile_error!("pipetalk needs Windows named pipes or Unix domain sockets");
    }
}

pub use access::{Access, Trust};
pub use deadline::Deadline;
pub use error::Error;
pub use local::{LocalListener, LocalStream};
pub use name::{Name, ToName};
pub use options::{ConnectOptions, DEFAULT_TIMEOUT, ListenOptions, ReadMode};
pub use peer::{Peer, UserId};
pub use transport::{DEFAULT_MAX_MESSAGE, Incoming, Listener, MAX_MESSAGE, Part, Stream, Waiting};
