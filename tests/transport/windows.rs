//! What only Windows has, and where a name is there.
//!
//! The foreign peers here are opened by the standard library (clients, in byte read mode) and by interprocess
//! (servers); those that are plain programs in C are in `tests/foreign`.

pub(crate) mod room;

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::num::NonZeroU8;
use std::thread;

use interprocess::os::windows::ToWtf16;
use interprocess::os::windows::named_pipe::{PipeListenerOptions, PipeMode, pipe_mode};
use interprocess::os::windows::security_descriptor::SecurityDescriptor;
use pipetalk::{
    Access, ConnectOptions, Deadline, ListenOptions, Listener, Name, Part, ReadMode, Stream, UserId,
};

use crate::harness::*;
use crate::names::assert_same_place;
use util::{PortableName, here, limit, skip, skipped_under_wine};

/// There is no part that only Windows has.
pub(crate) fn platform_part(part: &str, args: &[&str]) {
    panic!("there is no part {part:?} with {args:?}");
}

/// A client that knows nothing of this crate, and reads bytes.
fn open(pipe: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(pipe)
}

/// A server that knows nothing of this crate.
fn foreign(place: &Place, mode: PipeMode) -> PipeListenerOptions<'static> {
    PipeListenerOptions::new().path(place.pipe()).mode(mode)
}

pub(crate) fn n01_a_portable_name_is_that_pipe<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    let mut client = open(&place.pipe()).unwrap();
    let server = listener.accept(soon()).unwrap();
    client.write_all(b"hello").unwrap();
    assert_eq!(recv(&server).unwrap(), b"hello");
    send(&server, b"you");
    let mut reply = [0; 3];
    client.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"you");
}

pub(crate) fn n02_the_pipe_is_found_in_any_case<T: Named>() {
    let place = Place::new();
    let listener = T::bind(&place.name().to_uppercase()).unwrap();
    for pipe in [place.pipe(), place.pipe().to_uppercase()] {
        let _client = open(&pipe).unwrap();
        listener.accept(soon()).unwrap();
    }
}

#[test]
fn n03_the_longest_name_works() {
    let _limit = limit(here!());
    let name = PortableName::new();
    let name = format!("{}{}", &*name, "x".repeat(247 - name.len()));
    assert_same_place(&name, &name);
}

pub(crate) fn n05_a_pipe_of_another_machine_can_only_be_connected_to<T: Named>() {
    let name = PortableName::new();
    let remote = format!(r"\\127.0.0.1\pipe\{}", &*name);
    assert_eq!(kind(T::bind(&remote)), ErrorKind::Unsupported);
    // The system looks for it, and there is none.
    let dialed = kind(T::connect_with(&ConnectOptions::new(), &remote, soon()));
    assert!(
        !matches!(dialed, ErrorKind::Unsupported | ErrorKind::InvalidInput),
        "{dialed:?}"
    );
}

pub(crate) fn n05_a_socket_path_is_unsupported<T: Named>() {
    for name in ["/run/acme.sock", "./acme.sock", "@acme"] {
        assert_eq!(kind(T::bind(name)), ErrorKind::Unsupported);
        let dialed = T::connect_with(&ConnectOptions::new(), name, soon());
        assert_eq!(kind(dialed), ErrorKind::Unsupported);
    }
}

#[test]
fn n01_a_name_for_each_user_ends_in_the_sid() {
    let _limit = limit(here!());
    let name = PortableName::new();
    let own = Name::per_user(&name).unwrap();
    let user = UserId::current().unwrap();
    assert_eq!(own, Name::new(&format!("{}.{user}", &*name)).unwrap());
    assert_eq!(Name::system(&name).unwrap(), Name::new(&name).unwrap());
}

pub(crate) fn l01_a_foreign_listener_is_addr_in_use<T: Named>() {
    let place = Place::new();
    let only_one = foreign(&place, PipeMode::Messages)
        .instance_limit(NonZeroU8::new(1))
        .create_duplex::<pipe_mode::Messages>()
        .unwrap();
    assert_eq!(kind(T::bind(place.name())), ErrorKind::AddrInUse);
    drop(only_one);
    let _any_number = foreign(&place, PipeMode::Messages)
        .create_duplex::<pipe_mode::Messages>()
        .unwrap();
    if skipped_under_wine("L1", "FILE_FLAG_FIRST_PIPE_INSTANCE is ignored") {
        return;
    }
    assert_eq!(kind(T::bind(place.name())), ErrorKind::AddrInUse);
}

/// NPFS keeps a pipe until both ends of every instance are closed. Wine, whose pipes go with their servers, shows that a
/// listener of this crate makes nothing else of it; that it is not kept out, Windows alone can show.
pub(crate) fn l02_clients_of_a_listener_that_has_gone_do_not_keep_its_name<T: Named>() {
    let place = Place::new();
    let mut idle = Vec::new();
    for _ in 0..3 {
        let listener = T::bind(place.name()).unwrap();
        let client = T::connect(place.name()).unwrap();
        let server = listener.accept(soon()).unwrap();
        assert_works(&client, &server);
        // One that was not accepted keeps it as well.
        let unknown = T::connect(place.name()).unwrap();
        drop((server, listener));
        let gone = T::connect_with(&ConnectOptions::new(), place.name(), Deadline::NOW);
        assert_eq!(kind(gone), ErrorKind::NotFound);
        idle.extend([client, unknown]);
    }
    let here = kept_by_a_client(&place);
    assert!(here || skipped_under_wine("L2", "no client keeps a name there"));
    for client in &idle {
        assert_ended(client);
    }
}

/// Whether somebody's handle keeps the name, so that none can be its first.
fn kept_by_a_client(place: &Place) -> bool {
    let first = foreign(place, PipeMode::Messages).create_duplex::<pipe_mode::Messages>();
    first.is_err()
}

/// Whoever comes after has the access of the first, so that it is not taken over where something else is asked for.
pub(crate) fn l02_a_name_that_is_kept_with_another_access_is_in_use<T: Named>() {
    let place = Place::new();
    let everyone = ListenOptions::new().access(Access::Everyone);
    let listener = T::bind_with(&everyone, place.name()).unwrap();
    let client = T::connect(place.name()).unwrap();
    let server = listener.accept(soon()).unwrap();
    drop((server, listener));
    let refused = T::bind(place.name()).map(drop);
    if !skipped_under_wine("L2", "no client keeps a name there") {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(
            error.to_string().contains("not what was asked for"),
            "{error}"
        );
        // Nothing of ours has stayed there.
        let gone = T::connect_with(&ConnectOptions::new(), place.name(), Deadline::NOW);
        assert_eq!(kind(gone), ErrorKind::NotFound);
        drop(T::bind_with(&everyone, place.name()).unwrap());
    }
    drop(client);
    let listener = T::bind(place.name()).unwrap();
    let client = T::connect(place.name()).unwrap();
    assert_works(&client, &listener.accept(soon()).unwrap());
}

/// One that has left its client with something to read has not lost the name to it either.
pub(crate) fn l02_of_several_that_start_beside_a_client_that_stays_one_listens<T: Named>() {
    let place = Place::new();
    for _ in 0..rounds(20) {
        let listener = T::bind(place.name()).unwrap();
        let client = T::connect(place.name()).unwrap();
        send(&listener.accept(soon()).unwrap(), b"read me later");
        drop(listener);
        let bound: Vec<_> = thread::scope(|scope| {
            let bind = || T::bind(place.name());
            let starting: Vec<_> = (0..3).map(|_| scope.spawn(bind)).collect();
            let bound = starting.into_iter().map(|bind| bind.join().unwrap());
            bound.collect()
        });
        let listening = bound.iter().filter(|bound| bound.is_ok()).count();
        if !skipped_under_wine("L1", "FILE_FLAG_FIRST_PIPE_INSTANCE is ignored") {
            assert_eq!(listening, 1, "{bound:?}");
        }
        assert_eq!(recv(&client).as_deref(), Some(b"read me later".as_slice()));
        assert_ended(&client);
    }
}

pub(crate) fn l11_a_byte_type_pipe_cannot_be_opened_in_message_mode<T: Named>() {
    let place = Place::new();
    let _foreign = foreign(&place, PipeMode::Bytes)
        .create_duplex::<pipe_mode::Bytes>()
        .unwrap();
    let error = T::connect(place.name()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("byte"), "{error}");
}

pub(crate) fn c05_the_client_reads_in_message_mode<T: Named>() {
    let place = Place::new();
    let listener =
        foreign(&place, PipeMode::Messages).create::<pipe_mode::Bytes, pipe_mode::Messages>();
    let listener = listener.unwrap();
    let client = T::connect(place.name()).unwrap();
    let mut server = listener.accept().unwrap();
    for message in [&b"one"[..], b"", b"three", &[7; 300]] {
        server.send(message).unwrap();
    }
    assert_eq!(recv(&client).unwrap(), b"one");
    assert_eq!(recv(&client).unwrap(), b"");
    let mut buf = [0; 2];
    let part = client.recv(&mut buf, soon()).unwrap();
    assert_eq!(
        (part, &buf),
        (
            Some(Part {
                len: 2,
                last: false
            }),
            b"th"
        )
    );
    assert_eq!(recv(&client).unwrap(), b"ree");
    assert_eq!(recv(&client).unwrap(), [7; 300]);
    send(&client, b"reply");
    let mut reply = [0; 5];
    server.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"reply");
    server.assume_flushed();
}

pub(crate) fn c05_a_byte_type_pipe_is_read_when_asked_for<T: Named>() {
    let place = Place::new();
    let listener = foreign(&place, PipeMode::Bytes)
        .create_duplex::<pipe_mode::Bytes>()
        .unwrap();
    let bytes = ConnectOptions::new().read_mode(ReadMode::Byte);
    let client = T::connect_with(&bytes, place.name(), soon()).unwrap();
    let mut server = listener.accept().unwrap();
    server.write_all(b"one").unwrap();
    server.write_all(b"two").unwrap();
    assert_eq!(recv_bytes(&client, 6), b"onetwo");
    send(&client, b"three");
    send(&client, b"four");
    let mut reply = [0; 9];
    server.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"threefour");
    server.assume_flushed();
}

/// As many bytes as that, in parts that are each a last one.
fn recv_bytes<S: Stream>(stream: &S, len: usize) -> Vec<u8> {
    let mut received = Vec::new();
    while received.len() < len {
        let mut buf = [0; 100];
        let part = stream
            .recv(&mut buf, soon())
            .unwrap()
            .expect("bytes, not the end");
        assert!(part.last && part.len > 0);
        received.extend_from_slice(&buf[..part.len]);
    }
    received
}

pub(crate) fn c05_an_outbound_only_pipe_is_opened_to_receive<T: Named>() {
    let place = Place::new();
    let listener = foreign(&place, PipeMode::Messages)
        .create_send_only::<pipe_mode::Messages>()
        .unwrap();
    let client = T::connect(place.name()).unwrap();
    let server = listener.accept().unwrap();
    server.send(b"one").unwrap();
    server.send(b"two").unwrap();
    assert_eq!(recv(&client).unwrap(), b"one");
    assert_eq!(recv(&client).unwrap(), b"two");
    server.assume_flushed();
    drop(server);
    assert_ended(&client);
}

pub(crate) fn c05_an_inbound_only_pipe_is_opened_to_send<T: Named>() {
    let place = Place::new();
    let listener = foreign(&place, PipeMode::Messages)
        .create_recv_only::<pipe_mode::Bytes>()
        .unwrap();
    let client = T::connect(place.name()).unwrap();
    let mut server = listener.accept().unwrap();
    send(&client, b"one");
    send(&client, b"two");
    let mut received = [0; 6];
    server.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"onetwo");
}

pub(crate) fn c05_a_one_way_pipe_is_told_by_the_call_that_goes_the_other_way<T: Named>() {
    if skipped_under_wine("C5", "it opens a one-way pipe for both ways") {
        return;
    }
    let place = Place::new();
    let _listener = foreign(&place, PipeMode::Messages)
        .create_send_only::<pipe_mode::Messages>()
        .unwrap();
    let client = T::connect(place.name()).unwrap();
    let error = client.send(b"?", soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("send"), "{error}");
    let transacted = client.transact(b"?", &mut [0; 8], soon());
    assert_eq!(kind(transacted), ErrorKind::Unsupported);

    let place = Place::new();
    let _listener = foreign(&place, PipeMode::Messages)
        .create_recv_only::<pipe_mode::Bytes>()
        .unwrap();
    let client = T::connect(place.name()).unwrap();
    let error = client.recv(&mut [0; 8], soon()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("receive"), "{error}");
    let received = client.recv_message(&mut Vec::new(), soon());
    assert_eq!(kind(received), ErrorKind::Unsupported);
    let transacted = client.transact(b"?", &mut [0; 8], soon());
    assert_eq!(kind(transacted), ErrorKind::Unsupported);
}

pub(crate) fn c05_an_inbound_only_pipe_of_byte_type_is_reported_too<T: Named>() {
    for read_mode in [ReadMode::Message, ReadMode::Byte] {
        let place = Place::new();
        let _listener = foreign(&place, PipeMode::Bytes)
            .create_recv_only::<pipe_mode::Bytes>()
            .unwrap();
        let options = ConnectOptions::new().read_mode(read_mode);
        match T::connect_with(&options, place.name(), soon()) {
            Ok(_) => assert_eq!(read_mode, ReadMode::Byte),
            Err(error) => {
                assert_eq!(read_mode, ReadMode::Message);
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains("byte"), "{error}");
            }
        }
    }
}

/// The rights themselves are asserted beside them, in `src/windows.rs`.
pub(crate) fn c06_a_client_needs_no_right_to_create_instances<T: Named>() {
    if skipped_under_wine("C6", "it checks no rights on pipes") {
        return;
    }
    let place = Place::new();
    let sddl = format!("D:P(A;;0x12019b;;;{})", UserId::current().unwrap());
    let security = SecurityDescriptor::deserialize(&sddl.as_str().to_wtf_16().unwrap()).unwrap();
    let _listener = foreign(&place, PipeMode::Messages)
        .security_descriptor(Some(security))
        .create_duplex::<pipe_mode::Messages>()
        .unwrap();
    // GENERIC_WRITE includes that right.
    assert_eq!(kind(open(&place.pipe())), ErrorKind::PermissionDenied);
    T::connect(place.name()).unwrap();
}

pub(crate) fn c06_a_client_lets_nobody_act_in_its_name_unless_asked_to<T: Named>() {
    if skipped_under_wine("C6", "it does not keep the level of impersonation") {
        return;
    }
    let Pair { client, server, .. } = pair::<T>();
    send(&client, b"hello");
    assert_eq!(recv(&server).unwrap(), b"hello");
    // Who the client is may be seen, but nothing be done as it.
    let mut ran = false;
    let refused = T::impersonate(&server, || ran = true).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert!(
        refused.to_string().contains("allow_impersonation"),
        "{refused}"
    );
    assert!(!ran);
    assert_eq!(
        server.peer().unwrap().user,
        Some(UserId::current().unwrap())
    );
}

pub(crate) fn m12_a_foreign_byte_mode_reader_gets_the_bytes<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    let mut client = open(&place.pipe()).unwrap();
    let server = listener.accept(soon()).unwrap();
    for n in 0..100 {
        send(&server, &content(n, 1 + n));
    }
    for n in 0..100 {
        let mut bytes = vec![0; 1 + n];
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, content(n, 1 + n));
    }
}

pub(crate) fn m12_each_write_of_a_foreign_byte_mode_writer_is_a_message<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    let mut client = open(&place.pipe()).unwrap();
    let server = listener.accept(soon()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..100 {
                let message = content(n, n * 500 + 1);
                assert_eq!(client.write(&message).unwrap(), message.len());
            }
        });
        for n in 0..100 {
            assert_eq!(recv(&server).unwrap(), content(n, n * 500 + 1));
        }
    });
    drop(client);
    assert_ended(&server);
}

pub(crate) fn m12_byte_read_mode_on_either_end_loses_the_boundaries_only<T: Named>() {
    let place = Place::new();
    let options = ListenOptions::new().read_mode(ReadMode::Byte);
    let listener = T::bind_with(&options, place.name()).unwrap();
    let bytes = ConnectOptions::new().read_mode(ReadMode::Byte);
    let client = T::connect_with(&bytes, place.name(), soon()).unwrap();
    let server = listener.accept(soon()).unwrap();
    for (from, to) in [(&client, &server), (&server, &client)] {
        send(from, b"one");
        send(from, b"two");
        assert_eq!(recv_bytes(to, 6), b"onetwo");
        // What does not fit is the next part, and it is no part of a message.
        send(from, b"three");
        let mut buf = [0; 2];
        let part = to.recv(&mut buf, soon()).unwrap();
        assert_eq!((part, &buf), (Some(Part { len: 2, last: true }), b"th"));
        assert_eq!(recv_bytes(to, 3), b"ree");
    }
    drop(client);
    assert_ended(&server);
    // The other end's mode is its own business.
    let client = T::connect(place.name()).unwrap();
    let server = listener.accept(soon()).unwrap();
    send(&server, b"one");
    send(&server, b"two");
    assert_eq!(recv(&client).unwrap(), b"one");
    assert_eq!(recv(&client).unwrap(), b"two");
}

/// How the system writes this process's user in a security descriptor: a well-known one by two letters (`LA` is the
/// built-in administrator), so that texts tell which SID it is only where the system has written both.
fn as_shown<T: Named>() -> String {
    let place = Place::new();
    let user = UserId::current().unwrap();
    let sddl = format!("O:{user}D:P(A;;FA;;;{user})");
    let options = ListenOptions::new().access(Access::Sddl(sddl));
    let shown = T::access(&T::bind_with(&options, place.name()).unwrap()).unwrap();
    let owner = shown
        .strip_prefix("O:")
        .and_then(|rest| rest.split_once("D:"));
    owner
        .unwrap_or_else(|| panic!("no owner in {shown}"))
        .0
        .to_owned()
}

pub(crate) fn i02_by_default_the_pipe_is_its_users_only<T: Named>() {
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    let user = as_shown::<T>();
    let shown = T::access(&listener).unwrap();
    let entries: Vec<_> = shown.split('(').skip(1).collect();
    assert_eq!(entries.len(), 1, "{shown}");
    assert!(
        entries[0].starts_with("A;") && entries[0].ends_with(&format!(";{user})")),
        "{shown}"
    );
    assert!(shown.starts_with(&format!("O:{user}D:")), "{shown}");
}

#[test]
fn i02_another_user_is_kept_out() {
    let _limit = limit(here!());
    // What keeps others out is the descriptor above.
    if !skipped_under_wine("I2", "it checks no rights on pipes, and has one user") {
        skip("I2", "there is no second user to try it with");
    }
}

pub(crate) fn i03_the_owner_of_the_pipe_is_the_servers_user<T: Named>() {
    let Pair { client, .. } = pair::<T>();
    assert_eq!(
        client.peer().unwrap().user,
        Some(UserId::current().unwrap())
    );
}

pub(crate) fn i04_access_is_asked_for_in_words_and_shown<T: Named>() {
    let user = UserId::current().unwrap();
    let sddl = format!("O:{user}D:P(A;;FA;;;{user})(A;;FR;;;SY)");
    let user = as_shown::<T>();
    let cases = [
        (Access::Everyone, 2, ";WD)"),
        (Access::Group("S-1-5-32-545".into()), 2, ";BU)"),
        (Access::Sddl(sddl), 2, ";SY)"),
    ];
    for (access, entries, ends) in cases {
        let place = Place::new();
        let options = ListenOptions::new().access(access.clone());
        let listener = T::bind_with(&options, place.name()).unwrap();
        let shown = T::access(&listener).unwrap();
        assert_eq!(shown.matches("(A;").count(), entries, "{access:?}: {shown}");
        assert!(
            shown.contains(ends) && shown.contains(&format!(";{user})")),
            "{access:?}: {shown}"
        );
        let client = T::connect(place.name()).unwrap();
        assert_works(&client, &listener.accept(soon()).unwrap());
    }
}

pub(crate) fn i04_access_that_cannot_be_is_refused_in_words<T: Named>() {
    let place = Place::new();
    let bind = |access: Access| {
        let options = ListenOptions::new().access(access);
        T::bind_with(&options, place.name())
    };
    assert_eq!(kind(bind(Access::Mode(0o666))), ErrorKind::Unsupported);
    let nonsense = bind(Access::Sddl("nonsense".into())).unwrap_err();
    assert_eq!(nonsense.kind(), ErrorKind::InvalidInput);
    assert!(nonsense.to_string().contains("nonsense"), "{nonsense}");
    let nobody = bind(Access::Group("no-such-group-anywhere".into())).unwrap_err();
    assert!(
        nobody.to_string().contains("no-such-group-anywhere"),
        "{nobody}"
    );
    let listening = T::connect_with(&ConnectOptions::new(), place.name(), Deadline::NOW);
    assert_eq!(kind(listening), ErrorKind::NotFound);
}

pub(crate) fn i05_the_server_acts_as_the_client_that_lets_it<T: Named>() {
    if skipped_under_wine("I5", "its impersonation has gaps") {
        return;
    }
    let place = Place::new();
    let listener = T::bind(place.name()).unwrap();
    let options = ConnectOptions::new().allow_impersonation(true);
    let client = T::connect_with(&options, place.name(), soon()).unwrap();
    let server = listener.accept(soon()).unwrap();
    send(&client, b"hello");
    assert_eq!(recv(&server).unwrap(), b"hello");
    let open = || File::open(env::current_exe().unwrap());
    T::impersonate(&server, open).unwrap().unwrap();
    // What looks at the client within, or acts as it once more, leaves the thread as it is.
    let opened = T::impersonate(&server, || {
        let peer = server.peer()?;
        let opened = T::impersonate(&server, open)?;
        open()?;
        opened.map(|_| peer)
    });
    let user = Some(UserId::current().unwrap());
    assert_eq!(opened.unwrap().unwrap().user, user);
    // The closure may use the stream, and close it.
    T::impersonate(&server, || send(&server, b"as you")).unwrap();
    assert_eq!(recv(&client).unwrap(), b"as you");
    T::impersonate(&server, || server.close()).unwrap();
    let mut ran = false;
    let closed = T::impersonate(&server, || ran = true);
    assert_eq!(kind(closed), ErrorKind::NotConnected);
    assert!(!ran);
}
