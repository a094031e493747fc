//! What a client says first, and who is let in.

use std::time::Instant;

use crate::calls::bytes::{self, *};
use super::super::town::{Request, Town, echo, encoded};
use util::{A_MOMENT, here, limit};

#[test]
fn silence_before_the_hello_is_cut_off() {
    let _limit = limit(here!());
    let town = Town::with(|options| options.hello_timeout(A_MOMENT));
    let started = Instant::now();
    let silent = town.stranger();
    silent.assert_refused(OVER_LIMIT, "time for a hello");
    assert!(started.elapsed() >= A_MOMENT);
    town.assert_unharmed();
}

#[test]
fn who_has_said_hello_may_be_silent() {
    let _limit = limit(here!());
    let town = Town::with(|options| options.hello_timeout(A_MOMENT));
    let guest = town.guest();
    std::thread::sleep(2 * A_MOMENT);
    guest.assert_goes_on();
    drop(guest);
    town.assert_unharmed();
}

#[test]
fn half_a_hello_is_refused() {
    let _limit = limit(here!());
    let town = Town::new();
    let whole = hello();
    for cut in 0..whole.len() {
        let stranger = town.stranger();
        stranger.says(&whole[..cut]);
        let heard = stranger.hears();
        // Cut between two fields it is a hello that says less.
        let fits = matches!(&heard, Said::Welcome);
        let refused = |failure: &bytes::Failure| [MALFORMED, INCOMPATIBLE].contains(&failure.code);
        assert!(
            fits || matches!(&heard, Said::Refusal(failure) if refused(failure)),
            "{cut}: {heard:?}"
        );
    }
    town.assert_unharmed();
}

#[cfg(unix)]
#[test]
fn half_a_hello_and_then_silence_is_cut_off() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::super::town::PROMPT;

    let _limit = limit(here!());
    let town = Town::with(|options| options.hello_timeout(A_MOMENT));
    let mut raw = UnixStream::connect(town.place.path()).unwrap();
    raw.set_read_timeout(Some(PROMPT)).unwrap();
    raw.write_all(&(hello().len() as u32).to_le_bytes())
        .unwrap();
    raw.write_all(&hello()[..20]).unwrap();
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut raw, &mut answer).unwrap();
    match bytes::read(&answer[4..]) {
        Said::Refusal(failure) => assert_eq!(failure.code, OVER_LIMIT, "{failure:?}"),
        other => panic!("{other:?}"),
    }
    town.assert_unharmed();
}

#[test]
fn who_speaks_something_else_is_refused() {
    let _limit = limit(here!());
    let town = Town::new();
    let wrong_magic = [b"PTLX", &hello()[4..]].concat();
    let mut wrong_version = hello();
    wrong_version[5] = 2;
    let no_magic = message(HELLO, 0, 0, &[], &[], &[]);
    let twice = (7, &b"\0\0\0\0\0\0\0\0\0"[..]);
    let long = (4, &[b'v'; 1025][..]);
    let not_text = (4, &b"\xff"[..]);
    for (first, words) in [
        (&b""[..], "ends too early"),
        (b"\x10", "ends too early"),
        (b"GET / HTTP/1.1\r\n\r\n", "unknown kind"),
        (&wrong_magic, "unknown kind"),
        (&wrong_version, "unknown version of the opening"),
        (&no_magic, "without its magic number"),
        (&opening(9, &[]), "unknown kind of opening"),
        (&welcome(), "only a server sends"),
        (&fitting(HELLO, &[twice]), "wrong length"),
        (&fitting(HELLO, &[long]), "too long"),
        (&fitting(HELLO, &[not_text]), "not UTF-8"),
        (&echo(1, 1), "before the hello"),
        (&cancel(1), "before the hello"),
        (&credit(1, 1), "before the hello"),
        (&bytes::open(1, 1, 1, &[]), "before the hello"),
        (&notification(&[]), "before the hello"),
    ] {
        let stranger = town.stranger();
        stranger.says(first);
        let failure = match stranger.hears() {
            Said::Refusal(failure) => failure,
            other => panic!("{words}: {other:?}"),
        };
        assert_eq!(failure.code, MALFORMED, "{words}: {failure:?}");
        let early = failure.text.contains("before the hello");
        assert!(
            failure.text.contains(words) || early,
            "{words}: {failure:?}"
        );
        assert_eq!(stranger.hears_or_end(), None);
    }
    town.assert_unharmed();
}

#[test]
fn a_client_that_does_not_fit_may_ask_no_more_than_anybody() {
    let _limit = limit(here!());
    let town = Town::new();
    let stranger = town.stranger();
    stranger.says(&opening(HELLO, &[(1, b"another codec")]));
    match stranger.hears() {
        Said::Refusal(failure) => assert_eq!(failure.code, INCOMPATIBLE, "{failure:?}"),
        other => panic!("{other:?}"),
    }
    let handled = || stranger.hears();
    stranger.says(&echo(1, 1));
    assert!(matches!(handled(), Said::Error { id: 1, failure } if failure.code == INCOMPATIBLE));
    stranger.says(&notification(&encoded(&Request::Gate)));
    let fixed = [0xffff_ff00_u32.to_le_bytes(), FOR_EVER.to_le_bytes()].concat();
    stranger.says(&message(
        REQUEST,
        0,
        2,
        &[],
        &fixed,
        b"what is not asked for",
    ));
    assert!(matches!(stranger.hears(), Said::Reply { id: 2, .. }));
    assert_eq!(town.gate.seen(), 0, "its notification was carried out");
    drop(stranger);
    town.assert_unharmed();
}

#[test]
fn whom_the_rules_do_not_let_in_is_told_so() {
    let _limit = limit(here!());
    use std::sync::atomic::{AtomicBool, Ordering};
    static CLOSED: AtomicBool = AtomicBool::new(false);
    CLOSED.store(false, Ordering::SeqCst);
    let rules = |options: pipetalk::ServerOptions| {
        options
            .admit(|_| !CLOSED.load(Ordering::SeqCst))
            .control(|_| false)
    };
    let town = Town::with(rules);
    let guest = town.guest();
    for method in [0xffff_ff01_u32, 0xffff_ff02] {
        let fixed = [method.to_le_bytes(), FOR_EVER.to_le_bytes()].concat();
        guest.says(&message(REQUEST, 0, 9, &[], &fixed, b""));
        guest.assert_fails(9, DENIED, "");
    }
    guest.assert_goes_on();
    drop(guest);
    CLOSED.store(true, Ordering::SeqCst);
    for _ in 0..20 {
        town.stranger().assert_refused(DENIED, "may not connect");
    }
    CLOSED.store(false, Ordering::SeqCst);
    town.assert_unharmed();
}
