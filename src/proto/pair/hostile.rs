//! Each side alone with a peer that sends anything.

use std::time::Duration;

use super::{METHOD, dropped};
use crate::proto::wire::{self, Code, Failure};
use crate::proto::{ClientEvent, ClientSession, Due, NotNow, Party, ServerEvent, ServerSession};

/// What the sessions must make of a peer that sends anything: no panic, no answer to a call that does not wait, no
/// request more than the limit. A message that is refused ends the conversation, and the next one begins.
pub(super) fn run(data: &[u8]) {
    const LIMIT: usize = 3;
    let ours = Party::default();
    let mut client = ClientSession::default();
    let mut waiting: Vec<u32> = Vec::new();
    let mut given_up: Vec<u32> = Vec::new();
    let mut streams: Vec<u32> = Vec::new();
    let mut server = ServerSession::new(LIMIT);
    let mut unanswered: Vec<u32> = Vec::new();
    let mut data = data;
    let mut message = Vec::new();
    while let Some((&[what, which], rest)) = data.split_first_chunk() {
        data = rest;
        let pick = |ids: &[u32]| {
            ids.get(usize::from(which) % ids.len().max(1))
                .copied()
                .unwrap_or_else(|| u32::from(which))
        };
        message.clear();
        match what % 20 {
            0 => match client.start(u32::from(which)) {
                Ok(id) => {
                    assert!(!waiting.contains(&id) && !given_up.contains(&id));
                    waiting.push(id);
                    streams.retain(|other| *other != id);
                }
                Err(NotNow::Full) => {
                    assert_eq!(client.unanswered(), waiting.len() + given_up.len())
                }
                Err(_) => {}
            },
            1 => {
                let id = pick(&waiting);
                assert_eq!(client.give_up(id), waiting.contains(&id));
                if waiting.contains(&id) {
                    waiting.retain(|other| *other != id);
                    given_up.push(id);
                }
            }
            2 => {
                let id = pick(&waiting);
                client.unsend(id);
                waiting.retain(|other| *other != id);
                given_up.retain(|other| *other != id);
            }
            3 => {
                let id = pick(&unanswered);
                let answered = server.answer(id);
                assert_eq!(answered, unanswered.contains(&id));
                if answered {
                    server.answered();
                }
                unanswered.retain(|other| *other != id);
            }
            4 => wire::reply(&mut message, pick(&waiting)),
            5 => wire::reply(&mut message, pick(&given_up)),
            6 => wire::error(
                &mut message,
                pick(&waiting),
                &Failure::new(Code::Panicked, ""),
            ),
            7 => wire::request(
                &mut message,
                u32::from(which % 8),
                METHOD,
                Some(Duration::MAX),
            ),
            8 => wire::cancel(&mut message, pick(&unanswered)),
            9 => wire::hello(&mut message, &ours.identity()),
            10 => wire::welcome(&mut message, &ours.identity()),
            11 => wire::goodbye(&mut message),
            13 => {
                if let Ok((id, credit)) = client.open(METHOD, u32::from(which)) {
                    assert!(!waiting.contains(&id) && !given_up.contains(&id));
                    assert!(credit > 0);
                    waiting.push(id);
                    streams.push(id);
                }
            }
            14 => {
                let id = pick(&waiting);
                client.take(id, usize::from(which) << 6);
                match client.next_due() {
                    Some(due) if which % 3 == 0 => client.keep(due),
                    Some(Due::Credit { id, .. }) => assert!(streams.contains(&id)),
                    Some(Due::Cancel { id }) => assert!(given_up.contains(&id)),
                    None => assert!(!client.has_due()),
                }
            }
            15 => {
                let paid = server.may_send(pick(&unanswered));
                let price = server.pay(pick(&unanswered), usize::from(which) << 6);
                assert_eq!(price.is_some(), paid);
            }
            16 => {
                wire::item(&mut message, pick(&waiting));
                message.resize(8 + (usize::from(which) << 3), 0);
            }
            17 => wire::end(&mut message, pick(&given_up)),
            18 => wire::open(
                &mut message,
                u32::from(which % 8),
                METHOD,
                None,
                which.into(),
            ),
            19 => wire::credit(
                &mut message,
                pick(&unanswered),
                u32::from(which) << (which % 25),
            ),
            _ => {
                let (taken, rest) = data.split_at(usize::from(which % 64).min(data.len()));
                message.extend_from_slice(taken);
                data = rest;
            }
        }
        if what % 20 < 4 || (13..16).contains(&(what % 20)) {
            continue;
        }
        match client.receive(&message) {
            Ok(ClientEvent::Reply { id, .. } | ClientEvent::Failed { id, .. }) => {
                let place = waiting.iter().position(|waiting| *waiting == id);
                waiting.swap_remove(place.expect("the call waits"));
            }
            Ok(ClientEvent::Item { id, .. }) => {
                assert!(waiting.contains(&id) && streams.contains(&id));
            }
            Ok(ClientEvent::Ended { id }) => {
                assert!(streams.contains(&id));
                let place = waiting.iter().position(|waiting| *waiting == id);
                waiting.swap_remove(place.expect("the stream is open"));
            }
            Ok(ClientEvent::Nothing) => {
                let (id, item) = dropped(&message);
                let place = given_up.iter().position(|given_up| *given_up == id);
                let place = place.expect("the call was given up");
                if !item {
                    given_up.swap_remove(place);
                }
            }
            Ok(_) => {}
            Err(_) => {
                client = ClientSession::default();
                waiting.clear();
                given_up.clear();
                streams.clear();
            }
        }
        assert_eq!(client.unanswered(), waiting.len() + given_up.len());
        match server.receive(&ours.identity(), &message) {
            Ok(ServerEvent::Request { id, .. } | ServerEvent::Open { id, .. }) => {
                assert!(!unanswered.contains(&id));
                unanswered.push(id);
            }
            Ok(ServerEvent::Reject { id, .. }) => assert!(!unanswered.contains(&id)),
            Ok(ServerEvent::Cancel { id } | ServerEvent::Credit { id }) => {
                assert!(unanswered.contains(&id));
            }
            Ok(_) => {}
            Err(_) => {
                server = ServerSession::new(LIMIT);
                unanswered.clear();
            }
        }
        assert_eq!(server.in_flight(), unanswered.len());
        assert!(unanswered.len() <= LIMIT);
    }
    for id in unanswered {
        assert!(server.answer(id));
        server.answered();
    }
    assert_eq!(server.in_flight(), 0);
}
