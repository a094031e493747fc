//! One direction of a connection in memory.

use std::collections::VecDeque;

use crate::Part;

/// One direction: whole messages in the order in which they were sent.
#[derive(Default)]
pub(crate) struct Queue {
    pub(super) messages: VecDeque<Message>,
    pub(super) capacity: usize,
    pub(super) next_id: u64,
    /// Messages with a lower id are sent: nothing takes them back, and their senders go on.
    pub(super) sent_below: u64,
    /// The bytes of the messages in the queue that are sent.
    pub(super) sent_bytes: usize,
    /// The sender of the message at the head went away when it had been received in part.
    pub(super) truncated: bool,
}

pub(crate) struct Message {
    pub(super) id: u64,
    pub(super) data: Vec<u8>,
    /// How much of it has been received.
    pub(super) read: usize,
}

impl Message {
    pub(super) fn rest(&self) -> &[u8] {
        self.data.get(self.read..).unwrap_or_default()
    }

    /// How much of the capacity it takes: never nothing, so that no number of empty messages fits.
    pub(super) fn weight(&self) -> usize {
        self.rest().len().max(1)
    }
}

impl Queue {
    pub(super) fn push(&mut self, data: Vec<u8>) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.messages.push_back(Message { id, data, read: 0 });
        self.admit();
        id
    }

    /// Declares as many messages sent as there is room for.
    pub(super) fn admit(&mut self) {
        for message in self.messages.range(self.first_unsent()..) {
            let bytes = self.sent_bytes.saturating_add(message.weight());
            if bytes > self.capacity {
                break;
            }
            self.sent_bytes = bytes;
            self.sent_below = message.id + 1;
        }
    }

    pub(super) fn is_sent(&self, id: u64) -> bool {
        id < self.sent_below
    }

    pub(super) fn first_unsent(&self) -> usize {
        self.messages
            .partition_point(|message| self.is_sent(message.id))
    }

    /// Copies from the message at the head.
    pub(crate) fn take_part(&mut self, buf: &mut [u8]) -> Option<Part> {
        let head = self.messages.front_mut()?;
        let len = head.rest().len().min(buf.len());
        buf[..len].copy_from_slice(&head.rest()[..len]);
        let last = len == head.rest().len();
        if last {
            self.take();
        } else {
            head.read += len;
            if head.id < self.sent_below {
                self.sent_bytes -= len;
            }
            self.admit();
        }
        Some(Part { len, last })
    }

    /// Takes the message at the head, or what is left of it.
    pub(crate) fn take(&mut self) -> Option<Message> {
        let head = self.messages.pop_front()?;
        if self.is_sent(head.id) {
            self.sent_bytes -= head.weight();
        } else {
            self.sent_below = head.id + 1;
        }
        self.admit();
        Some(head)
    }

    /// Takes a message back that is not sent yet; false if the receiver has begun with it.
    pub(super) fn withdraw(&mut self, id: u64) -> bool {
        let begun = self
            .messages
            .front()
            .is_some_and(|head| head.id == id && head.read > 0);
        if !begun {
            self.messages.retain(|message| message.id != id);
            self.admit();
        }
        !begun
    }

    /// Drops the messages from an index on.
    pub(super) fn truncate(&mut self, len: usize) {
        self.truncated |= len == 0 && self.messages.front().is_some_and(|head| head.read > 0);
        self.messages.truncate(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_taken_back_makes_room_for_those_behind_it() {
        let mut queue = Queue {
            capacity: 4,
            ..Queue::default()
        };
        let ids = [&b"one"[..], b"too long", b"2"].map(|message| queue.push(message.to_vec()));
        assert_eq!(ids.map(|id| queue.is_sent(id)), [true, false, false]);
        assert!(queue.withdraw(ids[1]));
        assert!(queue.is_sent(ids[2]));
        assert_eq!(queue.take().unwrap().data, b"one");
        assert_eq!(queue.take().unwrap().data, b"2");
    }

    #[test]
    fn a_sender_has_its_room_although_others_wait_behind_it() {
        let mut queue = Queue {
            capacity: 4,
            ..Queue::default()
        };
        let ids = [b"1111", b"2222", b"3333"].map(|message| queue.push(message.to_vec()));
        assert_eq!(ids.map(|id| queue.is_sent(id)), [true, false, false]);
        assert_eq!(
            queue.take_part(&mut [0; 4]),
            Some(Part { len: 4, last: true })
        );
        assert_eq!(ids.map(|id| queue.is_sent(id)), [true, true, false]);
        assert_eq!(
            queue.take_part(&mut [0; 3]),
            Some(Part {
                len: 3,
                last: false
            })
        );
        assert!(!queue.is_sent(ids[2]));
    }

    #[test]
    fn a_message_over_the_capacity_is_sent_when_its_rest_fits() {
        let mut queue = Queue {
            capacity: 4,
            ..Queue::default()
        };
        let id = queue.push(vec![7; 10]);
        for (len, sent) in [(0, false), (5, false), (1, true)] {
            assert_eq!(
                queue.take_part(&mut vec![0; len]),
                Some(Part { len, last: false })
            );
            assert_eq!(queue.is_sent(id), sent);
        }
        assert_eq!(queue.take().unwrap().rest(), [7; 4]);
        assert_eq!(queue.sent_bytes, 0);
    }
}
