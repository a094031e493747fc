//! Claiming on a file system that behaves as NPFS does in what matters here, which Wine's does not.

use std::cell::Cell;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use windows_sys::Win32::Foundation::ERROR_NO_SYSTEM_RESOURCES;

use super::*;

/// The pipe of one name.
#[derive(Debug, Default)]
struct Npfs {
    pipe: Mutex<Option<Pipe>>,
    /// Somebody is claiming it.
    locked: Mutex<bool>,
    unlocked: Condvar,
}

/// The lock of whoever claims the name.
struct Turn(Arc<Npfs>);

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.locked.lock() = false;
        self.0.unlocked.notify_one();
    }
}

/// Its security descriptor is that of its first instance.
#[derive(Debug)]
struct Pipe {
    nature: &'static str,
    /// Who else may create instances.
    open_to_all: bool,
    limit: usize,
    instances: Vec<Ends>,
    next: u32,
}

/// Which ends of an instance are open.
#[derive(Debug)]
struct Ends {
    number: u32,
    server: bool,
    client: bool,
}

const OURS: &str = "ours";

impl Npfs {
    /// A client of a server that has gone.
    fn with_left_over(nature: &'static str) -> Arc<Npfs> {
        let npfs = Arc::new(Npfs::default());
        let server = Starting::of(&npfs, nature).create(true).unwrap();
        npfs.connect();
        drop(server);
        npfs
    }

    fn connect(&self) {
        let mut pipe = self.pipe.lock();
        let mut instances = pipe.as_mut().unwrap().instances.iter_mut();
        let listening = instances.find(|ends| ends.server && !ends.client);
        listening.unwrap().client = true;
    }

    /// The clients close their ends.
    fn clients_leave(&self) {
        self.change(|ends| ends.client = false);
    }

    fn change(&self, change: impl Fn(&mut Ends)) {
        let mut pipe = self.pipe.lock();
        if let Some(it) = pipe.as_mut() {
            it.instances.iter_mut().for_each(change);
            it.instances.retain(|ends| ends.server || ends.client);
            if it.instances.is_empty() {
                *pipe = None;
            }
        }
    }

    fn servers(&self) -> usize {
        let pipe = self.pipe.lock();
        let instances = pipe.as_ref().map(|pipe| pipe.instances.iter());
        instances.map_or(0, |it| it.filter(|ends| ends.server).count())
    }
}

/// The server's end of an instance.
#[derive(Debug)]
struct Server(Arc<Npfs>, u32);

impl Drop for Server {
    fn drop(&mut self) {
        let Server(npfs, number) = self;
        npfs.change(|ends| ends.server &= ends.number != *number);
    }
}

/// A server that is starting.
struct Starting {
    npfs: Arc<Npfs>,
    nature: &'static str,
    /// The lock is somebody's who does not let go of it.
    locked_out: bool,
    /// Nothing can be created any more.
    exhausted: Cell<bool>,
    /// Called before each call of the system, with the number of calls before it.
    before: Box<dyn Fn(u32)>,
    calls: Cell<u32>,
}

impl Starting {
    fn of(npfs: &Arc<Npfs>, nature: &'static str) -> Starting {
        Starting {
            npfs: Arc::clone(npfs),
            nature,
            locked_out: false,
            exhausted: Cell::new(false),
            before: Box::new(|_| {}),
            calls: Cell::new(0),
        }
    }

    fn call(&self) {
        let calls = self.calls.get();
        self.calls.set(calls + 1);
        (self.before)(calls);
    }
}

fn code(code: u32) -> io::Error {
    io::Error::from_raw_os_error(code as i32)
}

impl System for Starting {
    type Instance = Server;
    type Lock = Turn;
    type Nature = &'static str;

    fn lock(&self) -> io::Result<Turn> {
        self.call();
        if self.locked_out {
            return Err(io::Error::other("somebody has the lock"));
        }
        let mut locked = self.npfs.locked.lock();
        while *locked {
            let waited = self
                .npfs
                .unlocked
                .wait_for(&mut locked, Duration::from_secs(60));
            assert!(!waited.timed_out(), "nobody let go of the lock");
        }
        *locked = true;
        Ok(Turn(Arc::clone(&self.npfs)))
    }

    fn create(&self, first: bool) -> io::Result<Server> {
        self.call();
        if self.exhausted.get() {
            return Err(code(ERROR_NO_SYSTEM_RESOURCES));
        }
        let mut pipe = self.npfs.pipe.lock();
        if let Some(it) = &*pipe {
            if it.nature != self.nature && !it.open_to_all {
                return Err(code(ERROR_ACCESS_DENIED));
            }
            if it.instances.len() >= it.limit {
                return Err(code(ERROR_PIPE_BUSY));
            }
            if first {
                return Err(code(ERROR_ACCESS_DENIED));
            }
        }
        let it = pipe.get_or_insert_with(|| Pipe {
            nature: self.nature,
            open_to_all: false,
            limit: usize::MAX,
            instances: Vec::new(),
            next: 0,
        });
        let number = it.next;
        it.next += 1;
        it.instances.push(Ends {
            number,
            server: true,
            client: false,
        });
        Ok(Server(Arc::clone(&self.npfs), number))
    }

    fn is_served(&self) -> bool {
        self.call();
        self.npfs.servers() > 0
    }

    fn nature(&self, _: &Server) -> io::Result<&'static str> {
        self.call();
        Ok(self.npfs.pipe.lock().as_ref().unwrap().nature)
    }

    fn asked_for(&self) -> io::Result<&'static str> {
        self.call();
        Ok(self.nature)
    }
}

fn assert_in_use(claimed: io::Result<Server>, word: &str) {
    let error = claimed.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(word), "{error}");
}

#[test]
fn l01_a_name_that_is_free_is_taken_and_one_that_is_served_is_in_use() {
    let npfs = Arc::new(Npfs::default());
    let server = claim(&Starting::of(&npfs, OURS)).unwrap();
    assert_in_use(claim(&Starting::of(&npfs, OURS)), "listener already");
    // Also where all its instances are taken.
    npfs.connect();
    assert_in_use(claim(&Starting::of(&npfs, OURS)), "listener already");
    // And where it is somebody's who lets nobody else create any.
    drop(server);
    npfs.clients_leave();
    let _theirs = claim(&Starting::of(&npfs, "theirs")).unwrap();
    assert_in_use(claim(&Starting::of(&npfs, OURS)), "listener already");
    assert_eq!(npfs.servers(), 1);
}

#[test]
fn l02_clients_of_a_server_that_has_gone_do_not_keep_the_name() {
    let npfs = Npfs::with_left_over(OURS);
    assert!(Starting::of(&npfs, OURS).create(true).is_err());
    let server = claim(&Starting::of(&npfs, OURS)).unwrap();
    assert_eq!(npfs.servers(), 1);
    // It is served again, and by one only.
    assert_in_use(claim(&Starting::of(&npfs, OURS)), "listener already");
    npfs.connect();
    drop(server);
    drop(claim(&Starting::of(&npfs, OURS)).unwrap());
    npfs.clients_leave();
    assert!(npfs.pipe.lock().is_none());
}

/// Whoever was there first decides who may connect, although nobody listens any more.
#[test]
fn l02_a_pipe_that_another_user_has_left_behind_is_not_joined() {
    for open_to_all in [false, true] {
        let npfs = Npfs::with_left_over("theirs");
        npfs.pipe.lock().as_mut().unwrap().open_to_all = open_to_all;
        assert_in_use(claim(&Starting::of(&npfs, OURS)), "not what was asked for");
        assert_eq!(npfs.servers(), 0, "an instance of ours is left there");
        npfs.clients_leave();
        claim(&Starting::of(&npfs, OURS)).unwrap();
    }
}

#[test]
fn l02_a_limit_that_was_left_behind_is_told() {
    let npfs = Npfs::with_left_over(OURS);
    npfs.pipe.lock().as_mut().unwrap().limit = 1;
    let claimed = claim(&Starting::of(&npfs, OURS));
    assert_eq!(claimed.unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

/// Whoever has the lock cannot deny anybody a name that is free, and a name that is not is denied in words.
#[test]
fn l02_a_lock_that_cannot_be_had_is_told_where_it_is_needed() {
    let locked_out = |npfs: &Arc<Npfs>| Starting {
        locked_out: true,
        ..Starting::of(npfs, OURS)
    };
    let npfs = Npfs::with_left_over(OURS);
    assert_in_use(claim(&locked_out(&npfs)), "somebody has the lock");
    npfs.clients_leave();
    let _server = claim(&locked_out(&npfs)).unwrap();
    assert_in_use(claim(&locked_out(&npfs)), "listener already");
}

#[test]
fn what_fails_otherwise_is_no_matter_of_who_listens() {
    let npfs = Arc::new(Npfs::default());
    let starting = Starting::of(&npfs, OURS);
    starting.exhausted.set(true);
    let error = claim(&starting).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(ERROR_NO_SYSTEM_RESOURCES as i32));
}

/// The last clients may leave at any time.
#[test]
fn l02_clients_that_leave_meanwhile_make_no_difference() {
    for call in 0..7 {
        let npfs = Npfs::with_left_over(OURS);
        let mut starting = Starting::of(&npfs, OURS);
        let leaving = Arc::clone(&npfs);
        starting.before = Box::new(move |calls| {
            if calls == call {
                leaving.clients_leave();
            }
        });
        let _server = claim(&starting).unwrap();
        assert_eq!(npfs.servers(), 1);
    }
}

#[test]
fn l02_of_many_that_start_at_once_one_gets_the_name() {
    for round in 0..300 {
        let npfs = Npfs::with_left_over(OURS);
        let claimed: Vec<_> = thread::scope(|scope| {
            let starting: Vec<_> = (0..3)
                .map(|number| {
                    let npfs = &npfs;
                    scope.spawn(move || {
                        let mut starting = Starting::of(npfs, OURS);
                        starting.before = Box::new(move |calls| {
                            // A different order each time.
                            (0..(round * 7 + number * 3 + calls) % 5)
                                .for_each(|_| thread::yield_now());
                        });
                        claim(&starting)
                    })
                })
                .collect();
            if round % 3 > 0 {
                (0..round % 17).for_each(|_| thread::yield_now());
                npfs.clients_leave();
            }
            let ends = starting
                .into_iter()
                .map(|starting| starting.join().unwrap());
            ends.collect()
        });
        let got = claimed.iter().filter(|claimed| claimed.is_ok()).count();
        assert_eq!(got, 1, "round {round}: {claimed:?}");
        assert_eq!(npfs.servers(), 1);
    }
}

/// All orders of two: the second comes as a whole before any call of the first, as far as the lock lets it.
#[test]
fn l02_one_that_starts_in_the_midst_of_another_waits_or_is_refused() {
    for call in 0..7 {
        for leave in [false, true] {
            let npfs = Npfs::with_left_over(OURS);
            let mut first = Starting::of(&npfs, OURS);
            let (second, came) = (Arc::clone(&npfs), Arc::new(Mutex::new(None)));
            let comes = Arc::clone(&came);
            first.before = Box::new(move |calls| {
                if calls != call || *second.locked.lock() {
                    return;
                }
                if leave {
                    second.clients_leave();
                }
                *comes.lock() = Some(claim(&Starting::of(&second, OURS)));
            });
            let claimed = claim(&first);
            let came = came.lock().take();
            let got = usize::from(claimed.is_ok()) + usize::from(matches!(&came, Some(Ok(_))));
            assert_eq!(got, 1, "before call {call}: {claimed:?}, {came:?}");
            assert_eq!(npfs.servers(), 1);
        }
    }
}
