//! What takes a name, and a transport that knows who is at the other end.

use std::thread;
use std::time::Duration;

use pipetalk::{Call, CallError, ClientOptions, ServerOptions, UserId};

use super::driver::{Client, bind, connect};
use super::suite::{Reply, Request, handle_request};
use util::{Place, here, limit};

/// Neither those that it has told goodbye keep the name, nor those that it could not tell.
#[test]
fn a_server_that_has_ended_is_followed_by_another_while_its_clients_are_idle() {
    let _limit = limit(here!());
    let place = Place::new();
    let echo = |client: &Client<Request, Reply>| client.call(&Request::Echo("there".into()));
    let idle = {
        let server = bind(ServerOptions::new(), place.name()).unwrap();
        let handle = server.handle();
        let serving = thread::spawn(move || server.serve(handle_request()));
        let client = Client::connect(place.name()).unwrap();
        echo(&client).unwrap();
        handle.stop();
        serving.join().unwrap().unwrap();
        client
    };
    let options = ClientOptions::new().reconnect(true);
    let mut returning: Option<Client<Request, Reply>> = None;
    for pool in [0, 2, 0] {
        // At once, with everybody's end still open.
        let server = bind(ServerOptions::new().pool(pool), place.name()).unwrap();
        let handle = server.handle();
        let serving = thread::spawn(move || server.serve(handle_request()));
        let client =
            returning.get_or_insert_with(|| connect(options.clone(), place.name()).unwrap());
        echo(client).unwrap();
        let _ = util::skipped_under_wine("L2", "no client keeps a name there");
        handle.drain(Duration::from_secs(60));
        serving.join().unwrap().unwrap();
    }
    let error = echo(&idle).unwrap_err();
    assert!(
        matches!(
            error,
            CallError::Unavailable | CallError::Disconnected { sent: false }
        ),
        "{error:?}"
    );
}

/// On Windows a client is known only once something of it was read.
#[test]
fn a_handler_knows_the_process_and_the_user_of_its_client() {
    let _limit = limit(here!());
    let place = Place::new();
    let server = bind(ServerOptions::new(), place.name()).unwrap();
    let handle = server.handle();
    let serving = thread::spawn(move || {
        server.serve(|_: Request, call: &Call| {
            let user = call.peer().user.as_ref();
            let user = user.map_or_else(|| "nobody".to_owned(), |user| user.to_string());
            Reply::Echo(format!("{:?} {user}", call.peer().pid))
        })
    });
    let client: Client<Request, Reply> = Client::connect(place.name()).unwrap();
    let Reply::Echo(peer) = client.call(&Request::Echo(String::new())).unwrap() else {
        panic!("no echo");
    };
    let (pid, user) = peer.split_once(' ').unwrap();
    if util::PEER_HAS_PID {
        assert_eq!(pid, format!("{:?}", Some(std::process::id())));
    }
    if !util::skipped_under_wine("I1", "the user of a client's token is Wine's own") {
        assert_eq!(user, UserId::current().unwrap().to_string());
    }
    assert_ne!(user, "nobody");
    handle.stop();
    serving.join().unwrap().unwrap();
}
