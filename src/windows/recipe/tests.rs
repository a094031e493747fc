//! What claiming asks of the real system, as far as Wine has it.

use std::sync::mpsc;
use std::thread;

use windows_sys::Win32::System::Threading::CreateEventW;

use super::*;
use crate::transport::platform::Platform as _;
use crate::windows::claim::claim;
use crate::windows::stream::Stream;
use crate::windows::system::Os;
use crate::{Access, ConnectOptions, Deadline, Name};

fn path(test: &str) -> Vec<u16> {
    wide(&format!(r"\\.\pipe\pipetalk-unit-{}-{test}", process::id()))
}

fn recipe(test: &str, access: Access) -> Recipe {
    let options = ListenOptions::new().access(access);
    Recipe::new(&options, path(test)).unwrap()
}

fn connect(test: &str) -> Stream {
    let name = Name::new(&format!("pipetalk-unit-{}-{test}", process::id())).unwrap();
    Os::connect(&ConnectOptions::new(), &name, Deadline::NOW).unwrap()
}

#[test]
fn a_name_is_served_while_a_server_has_an_instance_and_no_longer() {
    let recipe = recipe("served", Access::SameUser);
    assert!(!recipe.is_served());
    let waiting = recipe.create(true).unwrap();
    assert!(recipe.is_served());
    // Looking costs it no client: it is still there for one.
    let client = connect("served");
    assert!(recipe.is_served(), "no instance is free, but one is there");
    drop(waiting);
    assert!(!recipe.is_served(), "what is left is a client");
    drop(client);
    assert!(!recipe.is_served());
}

/// Where the system has it so, the client that stays keeps others from being the first; but Wine does not.
#[test]
fn l02_a_name_that_a_client_keeps_is_claimed() {
    let recipe = recipe("claimed", Access::SameUser);
    let old = claim(&recipe).unwrap();
    let client = connect("claimed");
    drop(old);
    let first = recipe.create(true);
    if first.is_ok() {
        assert!(security::is_wine(), "the client does not keep the name");
        eprintln!("skipped under Wine: L2: it ignores FILE_FLAG_FIRST_PIPE_INSTANCE");
    }
    drop(first);
    let _new = claim(&recipe).unwrap();
    let again = claim(&recipe);
    if !security::is_wine() {
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
    drop(client);
}

#[test]
fn what_is_asked_for_is_told_from_what_is_not() {
    let own = recipe("nature", Access::SameUser);
    let pipe = own.create(true).unwrap();
    assert_eq!(own.nature(&pipe).unwrap(), own.asked_for().unwrap());
    let open = recipe("nature", Access::Everyone);
    assert_ne!(open.nature(&pipe).unwrap(), open.asked_for().unwrap());
    // What is left to the system is the same, whatever it makes of it.
    let user = token::current_user().unwrap();
    for sddl in [
        format!("D:P(A;;GA;;;{user})(A;;GR;;;SY)"),
        format!("O:{user}D:(A;;FA;;;{user})"),
    ] {
        let recipe = recipe("sddl", Access::Sddl(sddl));
        let pipe = recipe.create(true).unwrap();
        assert_eq!(recipe.nature(&pipe).unwrap(), recipe.asked_for().unwrap());
    }
}

#[test]
fn a_name_has_one_lock_whatever_its_case() {
    const SHORT: Duration = Duration::from_millis(20);
    let ours = path("locked");
    let lock = NameLock::take(&ours, PATIENCE).unwrap();
    let other_case: Vec<u16> = String::from_utf16(&ours)
        .unwrap()
        .to_uppercase()
        .encode_utf16()
        .collect();
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let error = NameLock::take(&other_case, SHORT).unwrap_err();
            assert!(error.to_string().contains("somebody else's"), "{error}");
            NameLock::take(&path("another"), SHORT).unwrap();
        });
        waits.join().unwrap();
    });
    drop(lock);
    // A thread that ends, or a process, gives it up.
    thread::spawn(move || std::mem::forget(NameLock::take(&ours, PATIENCE).unwrap()))
        .join()
        .unwrap();
    NameLock::take(&path("locked"), PATIENCE).unwrap();
}

#[test]
fn they_take_turns_who_claim_a_name() {
    let ours = path("turns");
    let lock = NameLock::take(&ours, PATIENCE).unwrap();
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let lock = NameLock::take(&ours, Duration::from_secs(60)).unwrap();
            tell.send(()).unwrap();
            drop(lock);
        });
        assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
        drop(lock);
        told.recv().unwrap();
    });
}

/// Somebody who has something else of that name denies nobody a name that is free, and says so where it is not.
#[test]
fn a_lock_that_cannot_be_had_is_told_in_words() {
    let recipe = recipe("squatted", Access::SameUser);
    let name = mutex_name(&recipe.path).unwrap();
    let wide = wide(&name);
    // SAFETY: the name ends in a NUL and lives through the call, and there are no attributes.
    let event = unsafe { CreateEventW(ptr::null(), 1, 0, wide.as_ptr()) };
    assert!(!event.is_null(), "{}", io::Error::last_os_error());
    // SAFETY: the handle was just opened and nobody else has it.
    let _event = unsafe { OwnedHandle::from_raw_handle(event) };
    let error = recipe.lock().unwrap_err();
    assert!(error.to_string().contains(&name), "{error}");
    claim(&recipe).unwrap();
}
