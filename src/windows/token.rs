//! Tokens: the user of this process, and acting as a client for a while.
//!
//! A thread has one token at a time, or none, and then acts as its process. User code may have given it one, by
//! [`LocalStream::impersonate`](crate::LocalStream::impersonate) or otherwise: whatever looks at a client here puts back
//! what was there before.

use std::io;
use std::marker::PhantomData;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::process;
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_INSUFFICIENT_BUFFER, ERROR_NO_TOKEN, HANDLE};
use windows_sys::Win32::Security::{
    GetTokenInformation, PSID, RevertToSelf, SECURITY_IMPERSONATION_LEVEL, SecurityAnonymous,
    SecurityIdentification, TOKEN_APPCONTAINER_INFORMATION, TOKEN_IMPERSONATE,
    TOKEN_INFORMATION_CLASS, TOKEN_USER, TokenAppContainerSid, TokenImpersonationLevel, TokenUser,
};
use windows_sys::Win32::System::Pipes::ImpersonateNamedPipeClient;
use windows_sys::Win32::System::Threading::{GetCurrentThread, OpenThreadToken, SetThreadToken};

use super::win32::{check, sid_text};

/// The token of this process, to be asked only: it need not be opened, which a thread that acts as a client might not
/// be allowed to do.
/// <https://learn.microsoft.com/en-us/windows/win32/api/processthreadsapi/nf-processthreadsapi-getcurrentprocesstoken>
const PROCESS_TOKEN: HANDLE = -4_isize as HANDLE;

/// The token that this thread has been given, likewise.
/// <https://learn.microsoft.com/en-us/windows/win32/api/processthreadsapi/nf-processthreadsapi-getcurrentthreadtoken>
const THREAD_TOKEN: HANDLE = -5_isize as HANDLE;

/// The SID of the user whose token this process runs under, whoever the thread acts as.
pub(super) fn current_user() -> io::Result<String> {
    user_of(PROCESS_TOKEN)
}

/// The SID of the package whose AppContainer this process runs in, if it does.
pub(super) fn package() -> io::Result<Option<String>> {
    let mut buffer = Buffer::default();
    buffer.ask(PROCESS_TOKEN, TokenAppContainerSid)?;
    buffer.check_holds::<TOKEN_APPCONTAINER_INFORMATION>()?;
    let start = buffer
        .words
        .as_ptr()
        .cast::<TOKEN_APPCONTAINER_INFORMATION>();
    // SAFETY: the call has put a TOKEN_APPCONTAINER_INFORMATION at the start of the buffer.
    let container = unsafe { start.read() };
    if container.TokenAppContainer.is_null() {
        return Ok(None);
    }
    // The SID is in the buffer, which is still there and was not moved.
    sid_text(container.TokenAppContainer).map(Some)
}

/// The SID of the client at the other end of a server's handle, taken from its impersonation token: what a
/// process id leads to may be another process by then.
pub(super) fn client_user(pipe: BorrowedHandle<'_>) -> io::Result<String> {
    let _acting = Impersonation::begin(pipe)?;
    if level_of(THREAD_TOKEN)? == SecurityAnonymous {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "the client does not let itself be identified",
        ));
    }
    user_of(THREAD_TOKEN)
}

/// Acts as the client at the other end of a server's handle, and goes back, also out of a panic.
pub(super) fn impersonate<R>(guard: Impersonation, act: impl FnOnce() -> R) -> io::Result<R> {
    check_level(level_of(THREAD_TOKEN)?)?;
    let result = act();
    drop(guard);
    Ok(result)
}

/// With a token of a lower level nothing can be opened, but what this process has open, and what it holds to be its own
/// right to do, would be used in the client's name.
fn check_level(level: SECURITY_IMPERSONATION_LEVEL) -> io::Result<()> {
    let why = if level == SecurityAnonymous {
        "the client does not let itself be identified, let alone acted for"
    } else if level == SecurityIdentification {
        // The system also lowers the level where this process has no right to act as that user:
        // <https://learn.microsoft.com/en-us/windows/win32/secauthz/impersonation-levels>
        "the client lets itself be identified only (ConnectOptions::allow_impersonation), or this process may not act \
         as other users (SeImpersonatePrivilege)"
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// A thread that acts as the client of a pipe. Dropping it gives the thread the token back that it had before.
#[derive(Debug)]
pub(super) struct Impersonation {
    before: Option<OwnedHandle>,
    /// It is one thread's.
    here: PhantomData<*const ()>,
}

impl Impersonation {
    pub(super) fn begin(pipe: BorrowedHandle<'_>) -> io::Result<Impersonation> {
        // What cannot be put back is not taken away.
        let before = thread_token()?;
        // SAFETY: the handle is open. The guard goes back on this thread, as it cannot be given to another.
        check(unsafe { ImpersonateNamedPipeClient(pipe.as_raw_handle()) })?;
        Ok(Impersonation {
            before,
            here: PhantomData,
        })
    }
}

impl Drop for Impersonation {
    fn drop(&mut self) {
        let done = match &self.before {
            // SAFETY: no thread is named, which means this one, and the token is open.
            Some(token) => unsafe { SetThreadToken(ptr::null(), token.as_raw_handle()) },
            // SAFETY: ends what `begin` began on this thread.
            None => unsafe { RevertToSelf() },
        };
        if done == 0 {
            // "If RevertToSelf fails, your application continues to run in the context of the client, which is
            // not appropriate. You should shut down the process": so its documentation.
            process::abort();
        }
    }
}

/// The token that this thread has been given, to be given to it again; `None` if it acts as the process.
fn thread_token() -> io::Result<Option<OwnedHandle>> {
    let mut token: HANDLE = ptr::null_mut();
    // SAFETY: returns a pseudo handle, which needs no closing.
    let thread = unsafe { GetCurrentThread() };
    // SAFETY: `thread` is valid, and `token` lives through the call. The token is opened with the rights of the
    // process, because those of whom the thread acts as may not do to open it.
    let opened = unsafe { OpenThreadToken(thread, TOKEN_IMPERSONATE, 1, &raw mut token) };
    if let Err(error) = check(opened) {
        return match error.raw_os_error().map(|code| code as u32) {
            Some(ERROR_NO_TOKEN) => Ok(None),
            _ => Err(error),
        };
    }
    // SAFETY: the handle was just opened and nobody else has it.
    Ok(Some(unsafe { OwnedHandle::from_raw_handle(token) }))
}

/// The SID of the user of a token.
fn user_of(token: HANDLE) -> io::Result<String> {
    let mut buffer = Buffer::default();
    buffer.ask(token, TokenUser)?;
    buffer.check_holds::<TOKEN_USER>()?;
    // SAFETY: the call has put a TOKEN_USER at the start of the buffer.
    let user = unsafe { buffer.words.as_ptr().cast::<TOKEN_USER>().read() };
    // The SID is in the buffer, which is still there and was not moved.
    let sid: PSID = user.User.Sid;
    sid_text(sid)
}

/// How far the user of a thread's token may be acted for.
fn level_of(token: HANDLE) -> io::Result<SECURITY_IMPERSONATION_LEVEL> {
    let mut buffer = Buffer::default();
    buffer.ask(token, TokenImpersonationLevel)?;
    buffer.check_holds::<SECURITY_IMPERSONATION_LEVEL>()?;
    let start = buffer.words.as_ptr().cast::<SECURITY_IMPERSONATION_LEVEL>();
    // SAFETY: the call has put a SECURITY_IMPERSONATION_LEVEL, which is a number, at the start of the buffer.
    Ok(unsafe { start.read() })
}

/// What a token answers; not to be moved then, as there are pointers into it.
#[derive(Default)]
struct Buffer {
    /// What is asked for here is a pointer and some numbers, with a SID behind them: 16 bytes and at most 68. u64s keep
    /// it aligned.
    words: [u64; 16],
    size: u32,
}

impl Buffer {
    /// Asks a token, which is a pseudo handle or open for that.
    fn ask(&mut self, token: HANDLE, what: TOKEN_INFORMATION_CLASS) -> io::Result<()> {
        // SAFETY: the buffer has the size that is said, is aligned for what is asked for, and lives through the call.
        let done = unsafe {
            GetTokenInformation(
                token,
                what,
                self.words.as_mut_ptr().cast(),
                size_of_val(&self.words) as u32,
                &raw mut self.size,
            )
        };
        check(done)
    }

    fn check_holds<T>(&self) -> io::Result<()> {
        if (self.size as usize) < size_of::<T>() {
            return Err(io::Error::from_raw_os_error(
                ERROR_INSUFFICIENT_BUFFER as i32,
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{self, AssertUnwindSafe};
    use std::thread;
    use std::time::Duration;

    use windows_sys::Win32::Security::{
        DuplicateTokenEx, SecurityImpersonation, TOKEN_DUPLICATE, TOKEN_QUERY, TokenImpersonation,
    };
    use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};

    use super::*;
    use crate::{ConnectOptions, Deadline, Listener, LocalListener, LocalStream, Stream, UserId};

    /// The user of this process, to be acted for as far as that level goes.
    fn token(level: SECURITY_IMPERSONATION_LEVEL) -> OwnedHandle {
        let mut own: HANDLE = ptr::null_mut();
        // SAFETY: returns a pseudo handle, which needs no closing.
        let process = unsafe { GetCurrentProcess() };
        let rights = TOKEN_DUPLICATE | TOKEN_QUERY;
        // SAFETY: `process` is valid, and `own` lives through the call.
        check(unsafe { OpenProcessToken(process, rights, &raw mut own) }).unwrap();
        // SAFETY: the handle was just opened and nobody else has it.
        let own = unsafe { OwnedHandle::from_raw_handle(own) };
        let mut token: HANDLE = ptr::null_mut();
        let rights = TOKEN_IMPERSONATE | TOKEN_QUERY;
        // SAFETY: the token is open, there are no attributes, and `token` lives through the call.
        let done = unsafe {
            DuplicateTokenEx(
                own.as_raw_handle(),
                rights,
                ptr::null(),
                level,
                TokenImpersonation,
                &raw mut token,
            )
        };
        check(done).unwrap();
        // SAFETY: the handle was just opened and nobody else has it.
        unsafe { OwnedHandle::from_raw_handle(token) }
    }

    /// Does something on a thread that has been given a token of that level, and says of which level its token is
    /// afterwards; `None`: it has none.
    fn acting<R: Send>(
        level: SECURITY_IMPERSONATION_LEVEL,
        act: impl FnOnce() -> R + Send,
    ) -> (R, Option<SECURITY_IMPERSONATION_LEVEL>) {
        thread::scope(|scope| {
            let acting = scope.spawn(|| {
                let token = token(level);
                // SAFETY: no thread is named, which means this one, and the token is open.
                check(unsafe { SetThreadToken(ptr::null(), token.as_raw_handle()) }).unwrap();
                assert_eq!(level_of(THREAD_TOKEN).unwrap(), level);
                (act(), level_of(THREAD_TOKEN).ok())
            });
            acting.join().unwrap()
        })
    }

    /// A connection of which the server has read something.
    fn connected(
        options: &ConnectOptions,
        test: &str,
    ) -> (LocalListener, LocalStream, LocalStream) {
        let soon = || Deadline::after(Duration::from_secs(60));
        let name = format!("pipetalk-unit-{}-{test}", process::id());
        let listener = LocalListener::bind(&*name).unwrap();
        let client = options.connect(&*name, soon()).unwrap();
        let server = listener.accept(soon()).unwrap();
        client.send(b"hello", soon()).unwrap();
        server.recv(&mut [0; 8], soon()).unwrap();
        (listener, client, server)
    }

    #[test]
    fn the_user_of_the_process_is_known_whoever_the_thread_acts_as() {
        let me = current_user().unwrap();
        let (user, _) = acting(SecurityIdentification, current_user);
        assert_eq!(user.unwrap(), me);
    }

    /// The rest of what user code does there would be done with the rights of the process.
    #[test]
    fn i05_looking_at_the_peer_leaves_the_thread_the_token_that_it_has() {
        let (_listener, client, server) = connected(&ConnectOptions::new(), "peer");
        for stream in [&server, &client] {
            let (peer, after) = acting(SecurityIdentification, || stream.peer());
            peer.unwrap();
            assert_eq!(after, Some(SecurityIdentification));
        }
        // Without one it has none afterwards.
        server.peer().unwrap();
        assert!(thread_token().unwrap().is_none());
    }

    #[test]
    fn i05_acting_as_a_client_within_acting_as_another_goes_back_to_that_one() {
        let options = ConnectOptions::new().allow_impersonation(true);
        let (_listener, _client, server) = connected(&options, "nested");
        let me = UserId::current().unwrap();
        let (result, after) = acting(SecurityIdentification, || {
            server.impersonate(|| {
                let outer = level_of(THREAD_TOKEN).unwrap();
                server.peer().unwrap();
                assert_eq!(level_of(THREAD_TOKEN).unwrap(), outer);
                server
                    .impersonate(|| assert_eq!(UserId::current().unwrap(), me))
                    .unwrap();
                assert_eq!(level_of(THREAD_TOKEN).unwrap(), outer);
            })
        });
        result.unwrap();
        assert_eq!(after, Some(SecurityIdentification));
        let (panicked, after) = acting(SecurityIdentification, || {
            panic::catch_unwind(AssertUnwindSafe(|| {
                let _ = server.impersonate(|| panic::resume_unwind(Box::new("as the client")));
            }))
        });
        assert!(panicked.is_err());
        assert_eq!(after, Some(SecurityIdentification));
    }

    #[test]
    fn i05_a_client_that_can_be_identified_only_is_not_acted_for() {
        let (refused, after) = acting(SecurityIdentification, || {
            // What `begin` makes where the client is of that level.
            let guard = Impersonation {
                before: None,
                here: PhantomData,
            };
            impersonate(guard, || panic!("nothing is to be done in its name"))
        });
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert!(error.to_string().contains("allow_impersonation"), "{error}");
        assert_eq!(after, None);
        assert!(check_level(SecurityAnonymous).is_err());
        assert!(check_level(SecurityImpersonation).is_ok());
    }
}
