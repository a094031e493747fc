//! Each side alone with a peer that sends anything.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::{METHOD, answer_to, request_of};
use crate::Deadline;
use crate::proto::client::{Asked, Calls, Next, Ticket};
use crate::proto::wire::{self, Code, Failure};
use crate::proto::woken::Woken;
use crate::proto::{Party, ServerEvent, ServerSession};

/// A client, and the calls whose ids its server has not answered.
struct Client {
    calls: Calls<u32>,
    waiting: Vec<Waiting>,
    given_up: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Waiting {
    id: u32,
    ticket: Ticket,
    is_stream: bool,
}

impl Client {
    fn new() -> Client {
        let mut client = Client {
            calls: Calls::new(Arc::new(Party::default())),
            waiting: Vec::new(),
            given_up: Vec::new(),
        };
        client.send(true);
        client
    }

    /// Begins a call or a stream, and sends its request, or does not after all.
    fn begin(&mut self, asked: Asked, sent: bool) {
        let Ok((ticket, blank)) = self.calls.begin(asked, Deadline::NEVER) else {
            return;
        };
        let Some(mut blank) = blank.filter(|_| sent) else {
            let (sent, _) = self.calls.give_up(ticket, &mut Woken::default());
            assert!(!sent);
            return;
        };
        blank.begin(None);
        let header = blank.out.plain().expect("a message in one piece");
        let (id, _) = request_of(header).expect("a request");
        assert!(!self.ids().contains(&id) && !self.given_up.contains(&id));
        *self.calls.waker(ticket) = Some(id);
        self.waiting.push(Waiting {
            id,
            ticket,
            is_stream: matches!(asked, Asked::Items { .. }),
        });
        // One that is over before it was sent is not sent.
        let pushed = self.calls.push(ticket, blank, false);
        assert!(pushed.is_ok(), "{pushed:?}");
        self.send(true);
    }

    fn ids(&self) -> Vec<u32> {
        self.waiting.iter().map(|waiting| waiting.id).collect()
    }

    fn send(&mut self, sent: bool) {
        let (mut batch, mut woken) = (Vec::new(), Woken::default());
        while self.calls.take_batch(&mut batch) {
            if !sent {
                let late = std::io::ErrorKind::TimedOut.into();
                self.calls.not_sent(&mut batch, (0, 1), &late, &mut woken);
                break;
            }
            self.calls.sent_batch(&mut batch, &mut woken);
        }
    }

    fn give_up(&mut self, id: u32) {
        let Some(place) = self.ids().iter().position(|other| *other == id) else {
            return;
        };
        let Waiting { ticket, .. } = self.waiting.swap_remove(place);
        let (sent, _) = self.calls.give_up(ticket, &mut Woken::default());
        assert!(sent);
        self.given_up.push(id);
    }

    /// Takes an item of a stream, if one has come.
    fn take(&mut self, id: u32) {
        let stream = |waiting: &&Waiting| waiting.id == id && waiting.is_stream;
        let Some(Waiting { ticket, .. }) = self.waiting.iter().find(stream) else {
            return;
        };
        match self.calls.poll_next(*ticket) {
            Poll::Pending | Poll::Ready(Next::Item(_)) => {}
            next => panic!("{next:?}"),
        }
    }

    /// A message has come. False: it ends the conversation.
    fn receive(&mut self, message: &[u8]) -> bool {
        let mut woken = Woken::default();
        self.calls
            .received(Arc::new(message.to_vec()), 0, &mut woken);
        if self.calls.ended().is_some() {
            for waiting in self.waiting.drain(..) {
                assert!(over(&mut self.calls, waiting), "a call that does not end");
            }
            return false;
        }
        let parsed = wire::parse(message).expect("a message");
        let Some((id, true)) = answer_to(&parsed) else {
            return true;
        };
        if let Some(place) = self.given_up.iter().position(|other| *other == id) {
            self.given_up.swap_remove(place);
            return true;
        }
        let place = self.ids().iter().position(|other| *other == id);
        let waiting = self.waiting.swap_remove(place.expect("the call waits"));
        assert!(over(&mut self.calls, waiting), "the call is answered");
        true
    }
}

/// Claims what a call has come to, if it is over.
fn over(calls: &mut Calls<u32>, waiting: Waiting) -> bool {
    if !waiting.is_stream {
        return calls.poll_over(waiting.ticket).is_ready();
    }
    loop {
        match calls.poll_next(waiting.ticket) {
            Poll::Ready(Next::Item(_)) => {}
            next => return next.is_ready(),
        }
    }
}

/// What each end must make of a peer that sends anything: no panic, no answer to a call that does not wait, no
/// request more than the limit. A message that is refused ends the conversation, and the next one begins.
pub(super) fn run(data: &[u8]) {
    const LIMIT: usize = 3;
    let ours = Party::default();
    let mut client = Client::new();
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
        let (waiting, given_up) = (client.ids(), client.given_up.clone());
        let method = u32::from(which);
        message.clear();
        match what % 20 {
            0 => client.begin(Asked::Reply { method }, true),
            1 => client.give_up(pick(&waiting)),
            2 => client.begin(Asked::Reply { method }, false),
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
                let window = u32::from(which);
                let method = METHOD;
                client.begin(Asked::Items { method, window }, true);
            }
            14 => {
                client.take(pick(&waiting));
                client.send(which % 3 != 0);
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
        if !client.receive(&message) {
            client = Client::new();
        }
        let expected = client.waiting.len() + client.given_up.len();
        assert_eq!(client.calls.unanswered(), expected);
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
