//! What async calls cost: no heap allocation once warm, one send and one receive for each side, and little memory for
//! a connection that is idle.

use std::sync::Arc;

use pipetalk::ServerOptions;
use pipetalk::tokio::{Client, Server};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use util::{Deserialize, Place, Serialize, announce, here, is_quick, limit, wait_for_release};

use crate::{ALLOCATOR, alone};

/// 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Small {
    numbers: [u64; 6],
    bytes: [u8; 16],
}

const SMALL: Small = Small {
    // Encoded at full length.
    numbers: [u64::MAX; 6],
    bytes: [0xa5; 16],
};

/// As many calls as are counted, of each of those that call.
fn calls() -> usize {
    if is_quick() { 200 } else { 1_000 }
}

/// What is asked of the server: an echo, or how much memory it uses.
type Asked = Option<Small>;
type Told = Result<Small, u64>;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn serve(name: &str) {
    // One more than the test makes, which it asks over.
    let options = ServerOptions::new()
        .connections(20_000)
        .connections_of_one_process(20_000);
    let server = options.bind_tokio(name).unwrap();
    announce("listening");
    let handler = |asked: Asked, _| async move { asked.ok_or_else(|| ALLOCATOR.live() as u64) };
    server.serve(handler).await.unwrap();
}

async fn call(client: &Client<Asked, Told>, times: usize) {
    for _ in 0..times {
        assert_eq!(client.call(&Some(SMALL)).await.unwrap(), Ok(SMALL));
    }
}

/// So many tasks, each of which calls so often whenever it is told to, and tells when it is done.
struct Callers {
    go: tokio::sync::broadcast::Sender<()>,
    done: Arc<Semaphore>,
    tasks: usize,
}

impl Callers {
    fn start(client: &Client<Asked, Told>, tasks: usize, times: usize) -> Callers {
        let (go, _) = tokio::sync::broadcast::channel(4);
        let done = Arc::new(Semaphore::new(0));
        for _ in 0..tasks {
            let (client, done, mut may_go) = (client.clone(), Arc::clone(&done), go.subscribe());
            tokio::spawn(async move {
                while may_go.recv().await.is_ok() {
                    call(&client, times).await;
                    done.add_permits(1);
                }
            });
        }
        Callers { go, done, tasks }
    }

    async fn call(&mut self) {
        self.go.send(()).unwrap();
        let all = u32::try_from(self.tasks).unwrap();
        self.done.acquire_many(all).await.unwrap().forget();
    }
}

/// Both sides are this process, on one runtime.
#[test]
fn a_call_allocates_nothing_once_warm() {
    let _alone = alone();
    let _limit = limit(here!());
    runtime().block_on(async {
        let place = Place::new();
        let server = Server::bind(place.name()).unwrap();
        let handle = server.handle();
        let handler = |asked: Asked, _| async move { asked.ok_or(0) };
        let serving = tokio::spawn(server.serve(handler));
        let client: Client<Asked, Told> = Client::connect(place.name()).await.unwrap();
        for (tasks, times) in [(1, calls()), (64, calls() / 20)] {
            let mut callers = Callers::start(&client, tasks, times);
            for _ in 0..5 {
                callers.call().await;
            }
            let mut fewest = usize::MAX;
            for _ in 0..5 {
                let before = ALLOCATOR.allocations();
                callers.call().await;
                fewest = fewest.min(ALLOCATOR.allocations() - before);
            }
            let calls = tasks * times;
            assert_eq!(fewest, 0, "allocations in {calls} calls of {tasks} tasks");
        }
        let (live, peak) = (ALLOCATOR.live(), ALLOCATOR.peak());
        assert!(live <= peak);
        ALLOCATOR.forget_peak();
        handle.stop();
        serving.await.unwrap().unwrap();
    });
}

#[cfg(target_os = "linux")]
mod on_linux {
    use std::collections::BTreeMap;

    use rustix::process::{Resource, getrlimit};

    use super::*;
    use util::traced::{can_trace, counted, traced};
    use util::{Actor, allow_many_descriptors, rounds_or, skip};

    /// 10,000 clients of one server, each of which calls: all are served, and one that is idle costs the server no more
    /// than 4 KiB beyond what the system keeps for it.
    #[test]
    fn an_idle_connection_costs_the_server_four_kibibytes_at_most() {
        const MOST: u64 = 4 << 10;
        let _alone = alone();
        let _limit = limit(here!());
        let crowd = rounds_or(10_000, 500) as u64;
        allow_many_descriptors();
        let descriptors = getrlimit(Resource::Nofile).current;
        if descriptors.is_some_and(|most| most < crowd + 100) {
            skip(
                here!(),
                &format!("needs {crowd} descriptors, and {descriptors:?} are allowed"),
            );
            return;
        }
        let place = Place::new();
        let mut server = Actor::start("tasks:serve", &[place.name()]);
        assert_eq!(server.says(), "listening");
        runtime().block_on(async {
            let asker: Client<Asked, Told> = Client::connect(place.name()).await.unwrap();
            let live = || async { asker.call(&None).await.unwrap().unwrap_err() };
            call(&asker, 100).await;
            let before = live().await;
            let mut clients: Vec<Client<Asked, Told>> = Vec::new();
            for _ in 0..crowd {
                let client = Client::connect(place.name()).await.unwrap();
                call(&client, 2).await;
                clients.push(client);
            }
            // All at once as well.
            let calls: Vec<_> = clients
                .iter()
                .map(|client| {
                    let client = client.clone();
                    tokio::spawn(async move { call(&client, 3).await })
                })
                .collect();
            for call in calls {
                call.await.unwrap();
            }
            let info = asker.channel().info().await.unwrap();
            assert_eq!(u64::from(info.connections), crowd + 1);
            let each = (live().await - before) / crowd;
            println!("{each} bytes for each of {crowd} connections");
            assert!(each <= MOST, "{each} bytes for an idle connection");
            drop(clients);
            asker.channel().stop().await.unwrap();
        });
        server.wait();
    }

    /// One send and one receive for each call, besides looking at what is ready. With 64 tasks it is for many calls
    /// together: for all of them, or in a few groups that follow each other.
    #[track_caller]
    fn assert_counts(counts: &BTreeMap<String, usize>, tasks: usize) {
        let groups = if tasks == 1 { 1 } else { tasks / 8 };
        let mut others = counts.clone();
        let mut take = |names: &[&str]| -> usize {
            names.iter().filter_map(|name| others.remove(*name)).sum()
        };
        let sends = take(&["sendto", "sendmsg", "writev", "write"]);
        let receives = take(&["recvfrom", "recvmsg", "read"]);
        let waits = take(&["epoll_wait", "epoll_pwait", "epoll_pwait2"]);
        let most = groups * calls() + calls() / 10 + 20;
        assert!(sends >= calls() / 2 && sends <= most, "{counts:?}");
        assert!(receives >= calls() / 2 && receives <= most, "{counts:?}");
        // A runtime of tokio's looks for what is ready after every 61 tasks as well.
        assert!(waits <= 2 * most + most / 5, "{counts:?}");
        assert!(others.values().sum::<usize>() <= 20, "{counts:?}");
    }

    #[test]
    fn a_client_sends_once_and_receives_once() {
        let _alone = alone();
        let _limit = limit(here!());
        if !can_trace("the system calls of a client") {
            return;
        }
        for tasks in [1, 64] {
            let place = Place::new();
            let mut server = Actor::start("tasks:serve", &[place.name()]);
            assert_eq!(server.says(), "listening");
            let trace = place.directory().join("trace");
            let number = tasks.to_string();
            let args = [place.name(), &number];
            let mut client = traced("tasks:call", &args, &trace);
            assert_eq!(client.says(), "done");
            client.release();
            client.wait();
            server.wait();
            assert_counts(&counted(&trace), tasks);
        }
    }

    #[test]
    fn a_server_sends_once_and_receives_once() {
        let _alone = alone();
        let _limit = limit(here!());
        if !can_trace("the system calls of a server") {
            return;
        }
        for tasks in [1, 64] {
            let place = Place::new();
            let trace = place.directory().join("trace");
            let mut server = traced("tasks:serve_marked", &[place.name()], &trace);
            assert_eq!(server.says(), "listening");
            let number = tasks.to_string();
            let mut client = Actor::start("tasks:call", &[place.name(), &number]);
            assert_eq!(client.says(), "done");
            client.release();
            client.wait();
            server.wait();
            assert_counts(&counted(&trace), tasks);
        }
    }
}

pub(crate) mod actors {
    use super::*;

    pub(crate) fn play(part: &str, args: &[&str]) {
        match (part, args) {
            ("serve", [name]) => {
                util::allow_many_descriptors();
                runtime().block_on(serve(name));
            }
            ("serve_marked", [name]) => runtime().block_on(async {
                let server = Server::bind(name).unwrap();
                announce("listening");
                let handler = |asked: Asked, _| async move {
                    if asked.is_none() {
                        mark();
                    }
                    asked.ok_or(0)
                };
                server.serve(handler).await.unwrap();
            }),
            ("call", [name, tasks]) => runtime().block_on(async {
                let client: Client<Asked, Told> = Client::connect(name).await.unwrap();
                let tasks: usize = tasks.parse().unwrap();
                let mut callers = Callers::start(&client, tasks, calls());
                callers.call().await;
                for _ in 0..2 {
                    // The server makes a mark as well, if it is the one to be looked at.
                    let _ = client.call(&None).await.unwrap();
                    mark();
                    callers.call().await;
                }
                announce("done");
                wait_for_release();
                client.channel().stop().await.unwrap();
            }),
            _ => panic!("no such part: {part} {args:?}"),
        }
    }

    fn mark() {
        #[cfg(target_os = "linux")]
        util::traced::mark();
    }
}
