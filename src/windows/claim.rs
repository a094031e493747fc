//! Taking a name: the first instance of a pipe.
//!
//! NPFS keeps a pipe, with its security descriptor, until both ends of every instance are closed. A server that has gone
//! leaves it behind as long as any client of its keeps a handle, and FILE_FLAG_FIRST_PIPE_INSTANCE then fails as it does
//! where somebody listens: a server that is started again would be kept out by the idle clients of the one before. So
//! it is looked whether anybody has the server's end of an instance; if nobody has, an instance is created without the
//! flag. Two dangers are in that:
//!
//! * Whoever creates a pipe decides who may connect to it, and who may create instances. An instance of a pipe that
//!   another user has left behind would be open to that user's friends. So it is taken only if it is, in all that
//!   matters, as a pipe that is made anew.
//! * Of two servers that are starting both could join what was left. So they take turns, also those that find the
//!   name free: one may come between another's look and its creation, just when the last client has gone.

use std::io;

use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_PIPE_BUSY};

/// What claiming asks of the system, for one name and what is to be created there.
pub(super) trait System {
    type Instance;
    /// Held by whoever is claiming the name.
    type Lock;
    /// What has to be the same.
    type Nature: PartialEq;

    /// Waits for its turn, for a while.
    fn lock(&self) -> io::Result<Self::Lock>;

    /// Creates an instance: the first, or one more of a pipe that may be there.
    fn create(&self, first: bool) -> io::Result<Self::Instance>;

    /// Whether anybody has the server's end of an instance.
    fn is_served(&self) -> bool;

    fn nature(&self, instance: &Self::Instance) -> io::Result<Self::Nature>;

    /// What a pipe would be that is made anew.
    fn asked_for(&self) -> io::Result<Self::Nature>;
}

/// Creates the first instance, or the first after everybody who served the name has gone.
pub(super) fn claim<S: System>(system: &S) -> io::Result<S::Instance> {
    // A name that is free needs no turn to be taken: without one it is as without this file.
    let lock = system.lock();
    match system.create(true) {
        Err(error) if is(&error, ERROR_ACCESS_DENIED) => {}
        // There is a pipe with a limit of its own, which is reached.
        Err(error) if is(&error, ERROR_PIPE_BUSY) => return Err(served()),
        created => return created,
    }
    if system.is_served() {
        return Err(served());
    }
    if let Err(error) = &lock {
        return Err(in_use(format!(
            "clients of an earlier listener keep the name, which cannot be taken over: {error}"
        )));
    }
    // Where this process may create no pipe at all, this says so.
    let asked_for = system.asked_for()?;
    let instance = system.create(false).map_err(|error| {
        if is(&error, ERROR_ACCESS_DENIED) || is(&error, ERROR_PIPE_BUSY) {
            kept()
        } else {
            error
        }
    })?;
    if system.nature(&instance)? != asked_for {
        return Err(kept());
    }
    Ok(instance)
}

fn is(error: &io::Error, code: u32) -> bool {
    error.raw_os_error() == Some(code as i32)
}

fn served() -> io::Error {
    in_use("the name has a listener already".to_owned())
}

fn kept() -> io::Error {
    in_use(
        "nobody listens at the name, but clients of an earlier listener keep its pipe, and who may connect to that is not \
         what was asked for"
            .to_owned(),
    )
}

fn in_use(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, why)
}

#[cfg(test)]
mod tests;
