//! What one client says to a server, and should not.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use pipetalk::{Deadline, Stream};

use crate::bytes::{self, *};
use crate::town::{MAX_MESSAGE, PROMPT, Raw, Reply, Request, Town, Tree, echo, echoed, encoded};
use crate::util::{A_MOMENT, here, limit, skip, until};

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
fn a_guest_who_says_what_he_may_not_is_refused() {
    let _limit = limit(here!());
    let town = Town::new();
    let broken_fields = message(REQUEST, 0, 1, b"\x01\xff\xff", &[0; 8], &[]);
    let fields_too_long = [&[REQUEST, 0, 0xff, 0xff], &[0; 12][..]].concat();
    for (then, words) in [
        (hello(), "a second hello"),
        (Vec::new(), "ends too early"),
        (vec![REQUEST], "ends too early"),
        (echo(1, 1)[..15].to_vec(), "ends too early"),
        (broken_fields, "ends too early"),
        (fields_too_long, "ends too early"),
        ([cancel(1), vec![0]].concat(), "goes on where it should end"),
        (message(0x7f, 0, 1, &[], &[], &[]), "unknown kind"),
        (message(0xff, 0, 1, &[], &[], &[]), "unknown kind"),
        (vec![0; 4096], "unknown kind"),
        (welcome(), "only a server sends"),
        (fitting(REFUSAL, &[]), "only a server sends"),
        (reply(1, b"\0"), "only a server sends"),
        (error(1, 1, "no"), "only a server sends"),
        (going_away(), "only a server sends"),
    ] {
        let guest = town.guest();
        guest.says(&then);
        guest.assert_refused(MALFORMED, words);
    }
    town.assert_unharmed();
}

#[test]
fn what_a_later_version_may_add_is_skipped() {
    let _limit = limit(here!());
    let town = Town::new();
    let stranger = town.stranger();
    stranger.says(&fitting(
        HELLO,
        &[(200, b"what?"), (255, b""), (200, &[7; 1000])],
    ));
    assert_eq!(stranger.hears(), Said::Welcome);
    let unknown = fields(&[(9, b"trace"), (250, &[0; 300])]);
    let fixed = [0_u32.to_le_bytes(), FOR_EVER.to_le_bytes()].concat();
    let payload = encoded(&Request::Echo(8));
    stranger.says(&message(REQUEST, 0xff, 5, &unknown, &fixed, &payload));
    assert_eq!(stranger.hears(), echoed(5, 8));
    stranger.says(&message(CANCEL, 0x80, 5, &unknown, &[], &[]));
    stranger.says(&message(NOTIFY, 0x0f, 5, &unknown, &[0; 4], &payload));
    stranger.assert_goes_on();
    drop(stranger);
    town.assert_unharmed();
}

#[test]
fn an_id_in_use_is_refused() {
    let _limit = limit(here!());
    let town = Town::with_pool(2, |options| options);
    let guest = town.guest();
    let gate = bytes::request(7, FOR_EVER, &encoded(&Request::Gate));
    guest.says(&gate);
    guest.says(&gate);
    guest.assert_refused(MALFORMED, "an id that is in use");
    town.gate.open();
    town.assert_unharmed();
}

#[test]
fn an_id_may_be_used_again_once_it_is_answered() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        for number in 0..100 {
            guest.says(&echo(7, number));
            assert_eq!(guest.hears(), echoed(7, number));
        }
        drop(guest);
        town.assert_unharmed();
    }
}

#[test]
fn cancelling_what_is_not_there_is_nothing() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        guest.says(&cancel(1));
        guest.says(&cancel(u32::MAX));
        guest.says(&echo(1, 1));
        assert_eq!(guest.hears(), echoed(1, 1));
        guest.says(&cancel(1));
        guest.assert_goes_on();
        drop(guest);
        town.assert_unharmed();
    }
}

#[test]
fn a_request_is_cancelled_among_others() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        guest.says(&bytes::request(
            1,
            FOR_EVER,
            &encoded(&Request::UntilCancelled),
        ));
        until("it runs", || town.gate.seen() == 1);
        guest.says(&cancel(2));
        guest.says(&cancel(1));
        guest.assert_fails(1, CANCELLED, "");
        guest.assert_goes_on();
        drop(guest);
        town.assert_unharmed();
    }
}

/// It was cancelled while it waited its turn behind another.
#[test]
fn a_request_is_cancelled_before_its_turn() {
    let _limit = limit(here!());
    for pool in [0, 1] {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        let waits = encoded(&Request::UntilCancelled);
        guest.says(&bytes::request(1, FOR_EVER, &waits));
        until("it runs", || town.gate.seen() == 1);
        guest.says(&bytes::request(2, FOR_EVER, &waits));
        guest.says(&cancel(2));
        guest.says(&cancel(1));
        if pool == 0 {
            guest.assert_fails(1, CANCELLED, "");
            guest.assert_fails(2, CANCELLED, "");
        } else {
            let mut failed = [guest.hears(), guest.hears()].map(|said| match said {
                Said::Error { id, failure } => (id, failure.code),
                other => panic!("{other:?}"),
            });
            failed.sort_unstable();
            assert_eq!(failed, [(1, CANCELLED), (2, CANCELLED)]);
        }
        guest.assert_goes_on();
        drop(guest);
        town.assert_unharmed();
    }
}

#[test]
fn who_leaves_cancels_what_he_asked_for() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        let waits = encoded(&Request::UntilCancelled);
        guest.says(&bytes::request(1, FOR_EVER, &waits));
        until("it runs", || town.gate.seen() == 1);
        drop(guest);
        town.assert_unharmed();
    }
}

#[test]
fn a_timeout_may_be_the_largest_there_is_or_none() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        for timeout in [u32::MAX, u32::MAX - 1, 1 << 31, 60_000] {
            guest.says(&bytes::request(1, timeout, &encoded(&Request::Echo(5))));
            assert_eq!(guest.hears(), echoed(1, 5));
        }
        let handled = town.gate.handled();
        guest.says(&bytes::request(1, 0, &encoded(&Request::UntilCancelled)));
        guest.assert_fails(1, CANCELLED, "");
        guest.says(&bytes::request(1, 20, &encoded(&Request::UntilCancelled)));
        guest.assert_fails(1, CANCELLED, "");
        assert!(town.gate.handled() > handled);
        guest.assert_goes_on();
        drop(guest);
        town.assert_unharmed();
    }
}

/// `Request::Text` and its like, with a payload of one's own behind.
fn payload(of: &Request, behind: &[u8]) -> Vec<u8> {
    [&encoded(of)[..1], behind].concat()
}

#[test]
fn payloads_that_claim_too_much_are_malformed() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        let text = Request::Text(String::new());
        let units = Request::Units(Vec::new());
        let branches = vec![1; MAX_MESSAGE / 2];
        let mut id = 0;
        for (of, behind) in [
            // Nine bytes that claim a huge string.
            (&text, claim(u64::MAX)),
            (&text, claim(1 << 40)),
            (&text, claim(1 << 30)),
            // Five bytes, or nine, of elements that take none.
            (&units, claim(u32::MAX.into())),
            (&units, claim(u64::MAX)),
            // Deeper than any stack.
            (&Request::Tree(Tree::Leaf), branches),
            // More than there should be.
            (&Request::Gate, vec![0]),
            (&Request::Echo(0), vec![0; 1000]),
            // Less, and nonsense.
            (&text, vec![3, b'a']),
            (&text, vec![1, 0xff]),
        ] {
            id += 1;
            let started = Instant::now();
            let payload = payload(of, &behind);
            guest.says(&bytes::request(id, FOR_EVER, &payload));
            guest.assert_fails(id, MALFORMED, "the request cannot be decoded");
            assert!(started.elapsed() < PROMPT);
        }
        for unknown in [&[][..], &[200], &[0xff; 64]] {
            guest.says(&bytes::request(99, FOR_EVER, unknown));
            guest.assert_fails(99, MALFORMED, "the request cannot be decoded");
        }
        // As notifications they are nothing.
        guest.says(&notification(&payload(&text, &claim(u64::MAX))));
        guest.assert_goes_on();
        drop(guest);
        town.assert_unharmed();
    }
}

#[test]
fn a_method_that_nobody_has_is_named() {
    let _limit = limit(here!());
    let town = Town::new();
    let guest = town.guest();
    for method in [1_u32, 77, 0xffff_feff, 0xffff_ff55, u32::MAX] {
        let fixed = [method.to_le_bytes(), FOR_EVER.to_le_bytes()].concat();
        guest.says(&message(
            REQUEST,
            0,
            3,
            &[],
            &fixed,
            &encoded(&Request::Echo(1)),
        ));
        match guest.hears() {
            Said::Error { id: 3, failure } => assert!(failure.code == 7, "{method}: {failure:?}"),
            other => panic!("{method}: {other:?}"),
        }
    }
    guest.assert_goes_on();
    drop(guest);
    town.assert_unharmed();
}

#[test]
fn a_message_over_the_limit_ends_the_connection_and_names_it() {
    let _limit = limit(here!());
    let town = Town::new();
    for before in [false, true] {
        let raw = if before {
            town.guest()
        } else {
            town.stranger()
        };
        let large = vec![REQUEST; MAX_MESSAGE + 1];
        // The server need not have read all of it to refuse it.
        let _ = raw.0.send(&large, Deadline::after(PROMPT));
        let failure = raw.assert_refused(TOO_LARGE, "over the server's limit");
        assert_eq!(failure.limit, MAX_MESSAGE as u64);
        assert_eq!(failure.size, MAX_MESSAGE as u64 + 1);
    }
    // One that is just as large as may be.
    let guest = town.guest();
    let fits = "x".repeat(MAX_MESSAGE - 22);
    let request = bytes::request(1, FOR_EVER, &encoded(&Request::Text(fits)));
    assert!(request.len() <= MAX_MESSAGE && request.len() > MAX_MESSAGE - 16);
    guest.says(&request);
    assert!(matches!(guest.hears(), Said::Reply { id: 1, .. }));
    guest.assert_goes_on();
    drop((guest, request));
    town.assert_unharmed();
}

/// While a handler looks whether it is cancelled, the server receives ahead.
#[test]
fn a_message_over_the_limit_is_named_behind_a_request_too() {
    let _limit = limit(here!());
    let town = Town::new();
    let guest = town.guest();
    let waits = encoded(&Request::UntilCancelled);
    guest.says(&bytes::request(1, 300, &waits));
    until("it runs", || town.gate.seen() == 1);
    let _ = guest
        .0
        .send(&vec![REQUEST; MAX_MESSAGE + 1], Deadline::after(PROMPT));
    guest.assert_fails(1, CANCELLED, "");
    guest.assert_refused(TOO_LARGE, "over the server's limit");
    town.assert_unharmed();
}

#[test]
fn a_reply_over_the_clients_limit_is_an_error() {
    let _limit = limit(here!());
    let town = Town::new();
    let stranger = town.stranger();
    stranger.says(&fitting(HELLO, &[(5, &1000_u32.to_le_bytes())]));
    assert_eq!(stranger.hears(), Said::Welcome);
    stranger.says(&bytes::request(
        1,
        FOR_EVER,
        &encoded(&Request::Large(2_000)),
    ));
    match stranger.hears() {
        Said::Error { id: 1, failure } => {
            assert_eq!(
                (failure.code, failure.limit),
                (TOO_LARGE, 1000),
                "{failure:?}"
            );
            assert!(failure.size > 2_000, "{failure:?}");
        }
        other => panic!("{other:?}"),
    }
    stranger.assert_goes_on();
    drop(stranger);
    town.assert_unharmed();
}

#[test]
fn more_requests_than_may_be_in_flight_are_told_so() {
    let _limit = limit(here!());
    let town = Town::with_pool(3, |options| options.in_flight(2));
    let guest = town.guest();
    let gate = encoded(&Request::Gate);
    guest.says(&bytes::request(1, FOR_EVER, &gate));
    guest.says(&bytes::request(2, FOR_EVER, &gate));
    for id in 3..100 {
        guest.says(&bytes::request(id, FOR_EVER, &gate));
        guest.assert_fails(id, OVER_LIMIT, "requests in flight");
    }
    town.gate.open();
    let mut answered = [guest.hears(), guest.hears()].map(|said| match said {
        Said::Reply { id, .. } => id,
        other => panic!("{other:?}"),
    });
    answered.sort_unstable();
    assert_eq!(answered, [1, 2]);
    guest.assert_goes_on();
    drop(guest);
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

/// Says the same again and again without ever listening, until it is cut off.
fn flood(raw: &Raw, message: &[u8]) -> usize {
    let started = Instant::now();
    for sent in 0.. {
        match raw.0.send(message, Deadline::after(PROMPT)) {
            Ok(()) => assert!(started.elapsed() < 4 * PROMPT, "it is not cut off"),
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::TimedOut, "it is not cut off");
                return sent;
            }
        }
    }
    unreachable!()
}

#[test]
fn a_flood_of_requests_with_no_reads_is_cut_off() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| {
            options.send_timeout(Duration::from_millis(200))
        });
        let small = echo(1, 1);
        let middling = bytes::request(2, FOR_EVER, &encoded(&Request::Text("x".repeat(5_000))));
        let to_large = bytes::request(3, FOR_EVER, &encoded(&Request::Large(MAX_MESSAGE / 2)));
        for message in [small, middling, to_large] {
            let guest = town.guest();
            if pool > 0 {
                // With the same id all the time it would be refused for that.
                let fixed = [1_u32.to_le_bytes(), FOR_EVER.to_le_bytes()].concat();
                let mut id = 0;
                let started = Instant::now();
                while guest
                    .0
                    .send(
                        &[
                            &[REQUEST, 0, 0, 0],
                            &u32::to_le_bytes(id)[..],
                            &fixed,
                            &message[16..],
                        ]
                        .concat(),
                        Deadline::after(PROMPT),
                    )
                    .is_ok()
                {
                    id += 1;
                    assert!(started.elapsed() < 4 * PROMPT, "it is not cut off");
                }
            } else {
                assert!(flood(&guest, &message) > 0);
            }
            drop(guest);
            town.assert_unharmed();
        }
    }
}

#[test]
fn a_flood_of_cancellations_is_nothing() {
    let _limit = limit(here!());
    for pool in [0, 2] {
        let town = Town::with_pool(pool, |options| options);
        let guest = town.guest();
        let floods = crate::util::rounds_or(30_000, 3_000);
        guest.says(&bytes::request(
            1,
            FOR_EVER,
            &encoded(&Request::UntilCancelled),
        ));
        until("it runs", || town.gate.seen() == 1);
        for id in 2..floods {
            guest.says(&cancel(id));
        }
        guest.says(&cancel(1));
        guest.assert_fails(1, CANCELLED, "");
        for id in 0..floods {
            guest.says(&cancel(id));
        }
        guest.assert_goes_on();
        drop(guest);
        town.assert_unharmed();
    }
}

/// Nobody answers a notification, so that nothing but the server itself can slow the flood down.
#[test]
fn a_flood_of_notifications_waits_for_the_handlers() {
    let _limit = limit(here!());
    for pool in [0, 1] {
        let town = Town::with_pool(pool, |options| options);
        let flooder = town.guest();
        let neighbourly = town.guest();
        drop(neighbourly);
        let large = notification(&encoded(&Request::Text("x".repeat(MAX_MESSAGE / 16))));
        flooder.says(&notification(&encoded(&Request::Text(
            "the first".to_owned(),
        ))));
        // A gate on the one thread of the pool would hold up the neighbour, who is to be answered all the while.
        let handled = town.gate.handled();
        let flood = crate::util::rounds_or(1_000, 200);
        for _ in 0..flood {
            flooder.says(&large);
        }
        flooder.assert_goes_on();
        assert!(town.gate.handled() >= handled + u64::from(flood));
        drop(flooder);
        town.assert_unharmed();
    }
}

#[test]
fn replies_of_a_pool_are_told_apart_in_any_order() {
    let _limit = limit(here!());
    let town = Town::with_pool(4, |options| options);
    let guest = town.guest();
    guest.says(&bytes::request(0, FOR_EVER, &encoded(&Request::Gate)));
    until("it waits", || town.gate.seen() == 1);
    for id in 1..=40 {
        guest.says(&echo(id, u64::from(id) * 3));
    }
    let mut seen = [false; 41];
    for _ in 1..=40 {
        match guest.hears() {
            Said::Reply { id, payload } => {
                assert_eq!(payload, encoded(&Reply::Echo(u64::from(id) * 3)));
                assert!(!std::mem::replace(&mut seen[id as usize], true));
            }
            other => panic!("{other:?}"),
        }
    }
    town.gate.open();
    assert!(matches!(guest.hears(), Said::Reply { id: 0, .. }));
    drop(guest);
    town.assert_unharmed();
}

#[test]
fn going_idle_with_a_request_under_way_costs_nothing() {
    let _limit = limit(here!());
    let town = Town::with_pool(2, |options| options.idle_timeout(5 * A_MOMENT));
    let usual = processor_time_of(10 * A_MOMENT);
    let guest = town.guest();
    guest.says(&bytes::request(1, FOR_EVER, &encoded(&Request::Gate)));
    until("it waits", || town.gate.seen() == 1);
    let asleep = processor_time_of(10 * A_MOMENT);
    assert!(
        asleep < usual + 3 * A_MOMENT,
        "{asleep:?} of processor time, {usual:?} before"
    );
    town.gate.open();
    assert!(matches!(guest.hears(), Said::Reply { id: 1, .. }));
    drop(guest);
    town.assert_unharmed();
}

/// How long this process runs in so much time, all threads together; no time at all where nobody tells.
fn processor_time_of(wait: Duration) -> Duration {
    let now = || {
        if !cfg!(target_os = "linux") {
            skip("processor time", "only Linux tells it in a file");
            return None;
        }
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // Behind the name, which may hold anything, it is the 12th and the 13th number, in hundredths of a second.
        let numbers: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks: u64 = numbers[11].parse::<u64>().ok()? + numbers[12].parse::<u64>().ok()?;
        Some(Duration::from_millis(10 * ticks))
    };
    let before = now().unwrap_or_default();
    std::thread::sleep(wait);
    now().unwrap_or_default() - before
}

#[test]
fn stopping_is_prompt_whoever_does_not_read() {
    let _limit = limit(here!());
    for pool in [0, 64] {
        let town = Town::with_pool(pool, |options| options);
        let deaf: Vec<Raw> = (0..40)
            .map(|_| {
                let guest = town.guest();
                guest.says(&bytes::request(
                    1,
                    FOR_EVER,
                    &encoded(&Request::Large(MAX_MESSAGE / 2)),
                ));
                guest
            })
            .collect();
        let started = Instant::now();
        // The neighbour notices, as it should: so it moves out first.
        drop(town);
        let took = started.elapsed();
        assert!(took < Duration::from_millis(2_500), "it took {took:?}");
        drop(deaf);
    }
}

#[test]
fn a_close_look_at_the_deadline_of_a_call() {
    let _limit = limit(here!());
    let town = Town::new();
    let guest = town.guest();
    // Its time is over while it waits behind another: nobody is to carry it out any more.
    guest.says(&bytes::request(1, 150, &encoded(&Request::UntilCancelled)));
    until("it runs", || town.gate.seen() == 1);
    guest.says(&bytes::request(2, 0, &encoded(&Request::Echo(2))));
    let handled = town.gate.handled();
    guest.assert_fails(1, CANCELLED, "");
    guest.assert_fails(2, CANCELLED, "");
    let _ = handled;
    guest.assert_goes_on();
    drop(guest);
    town.assert_unharmed();
}
