//! Listening and connecting.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use pipetalk::tokio::{Listener, LocalListener, LocalStream};
use pipetalk::{ConnectOptions, Deadline, Error, ListenOptions};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::overlapped::harness::*;

#[test]
fn stopping_wakes_who_accepts_and_gives_the_name_back() {
    let _limit = limit(here!());
    on_each(async || {
        for _ in 0..rounds_or(100, 30) {
            let name = PortableName::new();
            let listener = Arc::new(LocalListener::bind(&*name).unwrap());
            let accepts: Vec<_> = (0..3)
                .map(|_| {
                    let listener = Arc::clone(&listener);
                    tokio::spawn(async move { listener.accept(Deadline::NEVER).await })
                })
                .collect();
            yield_now().await;
            listener.stop();
            // At once, whoever has noticed by now.
            let dialed = LocalStream::connect(&*name).await;
            assert_eq!(kind(dialed), ErrorKind::NotFound);
            let next = LocalListener::bind(&*name).unwrap();
            for accept in accepts {
                let accepted = timeout(Duration::from_secs(10), accept).await.unwrap();
                assert_eq!(ours(accepted.unwrap()), Error::Stopped);
            }
            assert_eq!(ours(listener.accept(soon()).await), Error::Stopped);
            assert_eq!(ours(listener.access()), Error::Stopped);
            listener.stop();
            let client = LocalStream::connect(&*name).await.unwrap();
            assert_works(&client, &next.accept(soon()).await.unwrap()).await;
        }
    });
}

#[test]
fn streams_that_were_accepted_go_on() {
    let _limit = limit(here!());
    on_each(async || {
        let (client, server, listener) = pair().await;
        drop(listener);
        assert_works(&client, &server).await;
    });
}

#[test]
fn a_name_in_use_is_told() {
    let _limit = limit(here!());
    if skipped_under_wine("L1", "FILE_FLAG_FIRST_PIPE_INSTANCE is ignored") {
        return;
    }
    on_each(async || {
        let name = PortableName::new();
        let _listener = LocalListener::bind(&*name).unwrap();
        assert_eq!(kind(LocalListener::bind(&*name)), ErrorKind::AddrInUse);
    });
}

#[test]
fn the_limit_of_instances_is_waited_for() {
    let _limit = limit(here!());
    on_each(async || {
        let name = PortableName::new();
        let listener = ListenOptions::new()
            .instances(2)
            .bind_tokio(&*name)
            .unwrap();
        let dial = async |deadline| ConnectOptions::new().connect_tokio(&*name, deadline).await;
        let mut pairs = Vec::new();
        for _ in 0..2 {
            let client = dial(soon()).await.unwrap();
            pairs.push((client, listener.accept(soon()).await.unwrap()));
        }
        assert_eq!(ours(dial(Deadline::NOW).await), Error::Busy);
        assert_eq!(kind(dial(in_a_moment()).await), ErrorKind::TimedOut);
        assert_eq!(
            kind(listener.accept(in_a_moment()).await),
            ErrorKind::TimedOut
        );
        begin_and_drop(listener.accept(Deadline::NEVER)).await;
        let free = async {
            yield_now().await;
            pairs.pop();
        };
        let (client, server, ()) = tokio::join!(dial(soon()), listener.accept(soon()), free);
        assert_works(&client.unwrap(), &server.unwrap()).await;
    });
}

#[test]
fn clients_at_once_are_all_served() {
    let _limit = limit(here!());
    const CLIENTS: usize = 60;
    on_each(async || {
        let name = PortableName::new();
        let listener = ListenOptions::new()
            .instances(5)
            .bind_tokio(&*name)
            .unwrap();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let name = name.to_string();
                tokio::spawn(async move {
                    let client = LocalStream::connect(&*name).await.unwrap();
                    send(&client, &content(n, n * 50)).await;
                    assert_eq!(recv(&client).await, Some(content(n, n * 50)));
                })
            })
            .collect();
        for _ in 0..CLIENTS {
            let server = listener.accept(soon()).await.unwrap();
            tokio::spawn(async move {
                while let Some(message) = recv(&server).await {
                    send(&server, &message).await;
                }
            });
        }
        for client in clients {
            client.await.unwrap();
        }
    });
}

#[test]
fn a_client_that_leaves_before_accept_is_accepted_and_read() {
    let _limit = limit(here!());
    on_each(async || {
        let name = PortableName::new();
        let listener = LocalListener::bind(&*name).unwrap();
        for wait_first in [false, true] {
            if wait_first {
                begin_and_drop(listener.accept(Deadline::NEVER)).await;
            }
            let client = LocalStream::connect(&*name).await.unwrap();
            send(&client, b"hello").await;
            drop(client);
            let server = listener.accept(soon()).await.unwrap();
            assert_eq!(recv(&server).await.as_deref(), Some(&b"hello"[..]));
            assert_eq!(recv(&server).await, None);
        }
    });
}

#[test]
fn a_server_that_is_still_starting_is_waited_for() {
    let _limit = limit(here!());
    on_each(async || {
        let name = PortableName::new();
        let options = ConnectOptions::new().wait_for_server(true);
        let none = options.connect_tokio(&*name, in_a_moment()).await;
        assert_eq!(kind(none), ErrorKind::TimedOut);
        let start = async {
            yield_now().await;
            let listener = LocalListener::bind(&*name).unwrap();
            listener.accept(soon()).await.unwrap()
        };
        let (client, server) = tokio::join!(options.connect_tokio(&*name, soon()), start);
        assert_works(&client.unwrap(), &server).await;
    });
}

#[test]
fn a_dial_that_is_dropped_leaves_nothing_behind() {
    let _limit = limit(here!());
    on_each(async || {
        let name = PortableName::new();
        let listener = ListenOptions::new()
            .instances(1)
            .bind_tokio(&*name)
            .unwrap();
        let first = LocalStream::connect(&*name).await.unwrap();
        let server = listener.accept(soon()).await.unwrap();
        begin_and_drop(LocalStream::connect(&*name)).await;
        drop((first, server));
        let client = LocalStream::connect(&*name).await.unwrap();
        assert_works(&client, &listener.accept(soon()).await.unwrap()).await;
    });
}

#[test]
fn access_is_shown_while_somebody_accepts_and_costs_no_client() {
    let _limit = limit(here!());
    on_each(async || {
        let name = PortableName::new();
        let listener = LocalListener::bind(&*name).unwrap();
        let before = listener.access().unwrap();
        begin_and_drop(listener.accept(Deadline::NEVER)).await;
        assert_eq!(listener.access().unwrap(), before);
        let client = LocalStream::connect(&*name).await.unwrap();
        assert_works(&client, &listener.accept(soon()).await.unwrap()).await;
    });
}

#[test]
fn a_pipe_of_another_machine_can_only_be_connected_to() {
    let _limit = limit(here!());
    on_each(async || {
        let name = PortableName::new();
        let remote = format!(r"\\127.0.0.1\pipe\{}", &*name);
        assert_eq!(kind(LocalListener::bind(&remote)), ErrorKind::Unsupported);
        let dialed = kind(ConnectOptions::new().connect_tokio(&remote, soon()).await);
        assert!(
            !matches!(dialed, ErrorKind::Unsupported | ErrorKind::InvalidInput),
            "{dialed:?}"
        );
    });
}
