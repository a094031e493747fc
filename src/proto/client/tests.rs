//! What the calls of one end make of answers, of room, of credit and of what becomes of their messages.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

mod answers;
mod room;
mod sending;
mod streams;

use std::sync::Arc;

use super::due::Due;
use super::slot::Whose;
use super::*;
use crate::Deadline;
use crate::proto::tests::messages::welcome_with;
use crate::proto::wire::Malformed;

/// Calls, each of which is woken by its number.
type Client = Calls<u32>;

fn client() -> Client {
    let mut client = Client::new(Arc::default());
    assert_eq!(taken(&mut client), [Whose::Nobody]);
    client
}

/// The same after a welcome, with room for so many.
fn welcomed(max_in_flight: u32) -> Client {
    let mut client = client();
    hear(&mut client, &welcome_with(max_in_flight)).unwrap();
    client
}

/// What a message means: the calls that are woken, or how it breaks the protocol, whereupon all is as before.
fn hear(client: &mut Client, message: &[u8]) -> Result<Vec<u32>, Malformed> {
    let mut after = client.clone();
    let mut woken = Woken::default();
    match after.hear(Arc::new(message.to_vec()), 0, &mut woken) {
        Ok(_) => {
            after.offer_room(&mut woken);
            *client = after;
            Ok(numbers(woken))
        }
        Err(end) => {
            let CallError::Protocol(why) = end.of_sent(0) else {
                panic!("{end:?}")
            };
            let why = why.strip_prefix("the server sent ").unwrap().to_owned();
            Err(Malformed(why.leak()))
        }
    }
}

fn numbers(mut woken: Woken<u32>) -> Vec<u32> {
    let mut numbers = Vec::new();
    woken.drain(|number| numbers.push(number));
    numbers
}

const REPLY: Asked = Asked::Reply { method: 1 };

fn items(window: u32) -> Asked {
    Asked::Items { method: 1, window }
}

/// Begins a call that is sent at once by its caller. `None`: it would have to wait for room.
fn start(client: &mut Client, asked: Asked) -> Option<Ticket> {
    let (ticket, blank) = client.begin(asked, Deadline::NEVER).unwrap();
    match blank {
        Some(mut blank) => {
            blank.begin(None);
            client.sent(ticket, blank.out.len(), blank.out);
            Some(ticket)
        }
        None => {
            give_up(client, ticket);
            None
        }
    }
}

fn give_up(client: &mut Client, ticket: Ticket) -> bool {
    client.give_up(ticket, &mut Woken::default()).0
}

/// What there is to send, which is sent then.
fn taken(client: &mut Client) -> Vec<Whose> {
    let mut batch = Vec::new();
    assert_eq!(client.take_batch(&mut batch), !batch.is_empty());
    let owners = batch.iter().map(|queued| queued.whose).collect();
    if !batch.is_empty() {
        client.sent_batch(&mut batch, &mut Woken::default());
    }
    owners
}

fn cancel(ticket: Ticket) -> Due {
    Due::Cancel { id: ticket.id() }
}

fn credit(ticket: Ticket, more: u32) -> Due {
    let id = ticket.id();
    Due::Credit { id, more }
}

/// What a call has come to, which is over.
fn over(client: &mut Client, ticket: Ticket) -> Result<Option<Answer>, CallError> {
    match client.poll_over(ticket) {
        Poll::Ready(over) => over,
        Poll::Pending => panic!("it is not over"),
    }
}

fn take_item(client: &mut Client, ticket: Ticket) {
    assert!(matches!(
        client.poll_next(ticket),
        Poll::Ready(Next::Item(_))
    ));
}
