//! Calls: each has its answer or its end, and who reads, waits for room or sends holds nobody up.

use std::cell::RefCell;
use std::rc::Rc;

use loom::thread;

use super::client::{
    Client, Message, NOT_SENT, TIMED_OUT, answered, answered_together, explore, unanswered,
};
use crate::Deadline;
use crate::client::sync::{CLOCK, at};
use crate::proto::call_error::CallError;

#[test]
fn each_of_two_gets_its_answer() {
    explore(None, || {
        let client = Client::new(9);
        let other = client.spawn(Deadline::NEVER, answered);
        assert!(client.call(Deadline::NEVER, answered).is_ok());
        assert!(other.join().unwrap().is_ok());
    });
}

#[test]
fn each_of_three_gets_its_answer() {
    explore(Some(3), || {
        let client = Client::new(9);
        let others = [(); 2].map(|()| client.spawn(Deadline::NEVER, answered));
        assert!(client.call(Deadline::NEVER, answered).is_ok());
        for other in others {
            assert!(other.join().unwrap().is_ok());
        }
    });
}

/// Whoever reads first may read the other's answer.
#[test]
fn answers_come_in_any_order() {
    for order in [[0, 1], [1, 0]] {
        explore(None, move || {
            let client = Client::new(9);
            let other = client.spawn(Deadline::NEVER, answered_together(order));
            assert!(
                client
                    .call(Deadline::NEVER, answered_together(order))
                    .is_ok()
            );
            assert!(other.join().unwrap().is_ok());
        });
    }
}

/// Whoever reads when the deadline passes hands the reading over.
#[test]
fn a_reader_that_times_out_hands_over() {
    explore(Some(4), || {
        let client = Client::new(9);
        let late = client.spawn(at(), unanswered);
        let other = client.spawn(Deadline::NEVER, |client, id| {
            let client = client.clone();
            // The answer comes after the deadline.
            client.pass_the_deadline();
            answered(&client, id)
        });
        assert_eq!(late.join().unwrap(), Err(TIMED_OUT));
        assert!(other.join().unwrap().is_ok());
        assert_eq!(client.cancelled(), 1);
    });
}

/// A deadline and the answer meet: the call has one of the two, and its place is used accordingly.
#[test]
fn an_answer_comes_in_the_last_moment() {
    explore(Some(3), || {
        let client = Client::new(9);
        let late = client.spawn(at(), answered);
        let other = client.spawn(Deadline::NEVER, answered);
        client.pass_the_deadline();
        let given_up = match late.join().unwrap() {
            Ok(_) => 0,
            Err(error) => {
                assert_eq!(error, TIMED_OUT);
                1
            }
        };
        assert!(other.join().unwrap().is_ok());
        // The answer may come before that has been sent.
        assert!(client.cancelled() <= given_up);
    });
}

#[test]
fn who_waits_for_room_gets_it() {
    explore(None, || {
        let client = Client::new(1);
        let other = client.spawn(Deadline::NEVER, answered);
        assert!(client.call(Deadline::NEVER, answered).is_ok());
        assert!(other.join().unwrap().is_ok());
    });
}

#[test]
fn several_wait_for_room() {
    explore(Some(3), || {
        let client = Client::new(1);
        let others = [(); 2].map(|()| client.spawn(Deadline::NEVER, answered));
        assert!(client.call(Deadline::NEVER, answered).is_ok());
        for other in others {
            assert!(other.join().unwrap().is_ok());
        }
    });
}

/// There is room for many at once: each who gets some wakes the next.
#[test]
fn room_is_handed_on() {
    explore(Some(2), || {
        let client = Client::unmet();
        let _stream = client.open();
        let others = [(); 2].map(|()| client.spawn(Deadline::NEVER, answered));
        client.wire().deliver(Message::Welcome(9));
        assert!(client.call(Deadline::NEVER, answered).is_ok());
        for other in others {
            assert!(other.join().unwrap().is_ok());
        }
    });
}

/// All who wait for room are told that there will be none, while another goes on reading.
#[test]
fn who_learns_that_it_may_not_begin_wakes_the_next() {
    explore(Some(3), || {
        let client = Client::new(1);
        let stream = client.open();
        let others = [(); 2].map(|()| {
            let (client, id) = (client.clone(), stream.id);
            thread::spawn(move || {
                let refused = Err(CallError::Unavailable);
                assert_eq!(client.call(Deadline::NEVER, answered), refused);
                client.wire().change(|line| {
                    line.requests.push(0);
                    if line.requests.len() == 2 {
                        line.to_client.push_back(Message::Item(id, 10));
                    }
                });
            })
        });
        client.wire().deliver(Message::GoingAway);
        assert_eq!(stream.next(Deadline::NEVER), Some(Ok(10)));
        for other in others {
            other.join().unwrap();
        }
    });
}

/// A thread that waits for the welcome hears it although another reads it, and goes on reading.
#[test]
fn the_welcome_is_heard_by_all() {
    explore(Some(3), || {
        let client = Client::unmet();
        let hears = {
            let client = client.clone();
            thread::spawn(move || {
                client.notify(|client| {
                    let mut line = client.wire().line.lock();
                    while line.requests.is_empty() {
                        line = client.wire().changed.wait(line).unwrap();
                    }
                    let answer = Message::Answer(line.requests[0]);
                    drop(line);
                    client.wire().deliver(answer);
                })
            })
        };
        let me = client.call(Deadline::NEVER, |client, id| {
            client.wire().deliver(Message::Welcome(1));
            client.wire().change(|line| line.requests.push(id));
            true
        });
        assert!(me.is_ok());
        assert_eq!(hears.join().unwrap(), Ok(()));
    });
}

/// It takes no room from those that wait for that.
#[test]
fn who_waits_for_the_welcome_is_not_woken_for_room() {
    explore(Some(2), || {
        let client = Client::unmet();
        let hears = {
            let client = client.clone();
            thread::spawn(move || client.notify(|_| ()))
        };
        let send = |client: &Client, id| {
            client.wire().change(|line| {
                line.requests.push(id);
                line.to_client.push_back(Message::Answer(id));
                if line.requests.len() == 1 {
                    line.to_client.push_back(Message::Welcome(1));
                }
            });
            true
        };
        let other = client.spawn(Deadline::NEVER, send);
        assert!(client.call(Deadline::NEVER, send).is_ok());
        assert!(other.join().unwrap().is_ok());
        assert_eq!(hears.join().unwrap(), Ok(()));
    });
}

/// Who waits for room may read for somebody who waits for an answer, and learn that there is nothing to begin.
#[test]
fn who_may_not_begin_hands_over() {
    explore(None, || {
        let client = Client::new(1);
        let send = |client: &Client, id| {
            client.wire().deliver(Message::GoingAway);
            answered(client, id)
        };
        let other = client.spawn(Deadline::NEVER, send);
        let me = client.call(Deadline::NEVER, send);
        let other = other.join().unwrap();
        let refused = Err(CallError::Unavailable);
        assert!(me.is_ok() || me == refused);
        assert!(other.is_ok() || other == refused);
        assert!(me.is_ok() || other.is_ok());
    });
}

/// The one who waits for room times out while it reads.
#[test]
fn who_waits_for_room_in_vain_hands_over() {
    explore(None, || {
        let client = Client::new(1);
        let first = client.spawn(Deadline::NEVER, |client, id| {
            client.pass_the_deadline();
            answered(client, id)
        });
        let second = client.call(at(), answered);
        assert!(first.join().unwrap().is_ok());
        let late = |sent| Err(CallError::TimedOut { sent });
        assert!(second.is_ok() || second == late(true) || second == late(false));
    });
}

/// There is room when a request cannot be sent, although no message says so.
#[test]
fn a_request_that_is_not_sent_makes_room() {
    explore(None, || {
        CLOCK.lock().little_whiles = true;
        let client = Client::new(1);
        let first = client.spawn(Deadline::NEVER, |_, _| false);
        let second = client.spawn(Deadline::NEVER, answered);
        assert_eq!(first.join().unwrap(), Err(NOT_SENT));
        // A little while later, for the one that reads.
        client.pass_the_deadline();
        assert!(second.join().unwrap().is_ok());
    });
}

/// Of two that wait for that, it is the one that sleeps which is told: no little while has to end.
#[test]
fn room_that_is_given_back_is_not_offered_to_who_reads() {
    explore(Some(3), || {
        let client = Client::new(1);
        let others = Rc::new(RefCell::new(Vec::new()));
        let begun = Rc::clone(&others);
        let me = client.call(Deadline::NEVER, move |client, _| {
            begun.replace(
                [(); 2]
                    .map(|()| client.spawn(Deadline::NEVER, answered))
                    .into(),
            );
            thread::yield_now();
            false
        });
        assert_eq!(me, Err(NOT_SENT));
        for other in others.take() {
            assert!(other.join().unwrap().is_ok());
        }
    });
}

/// The same while somebody reads whose answer does not come before the one that waits for room has sent.
#[test]
fn a_request_that_is_not_sent_makes_room_for_who_sleeps() {
    explore(Some(3), || {
        CLOCK.lock().little_whiles = true;
        let client = Client::new(2);
        let together = |client: &Client, id| {
            client.wire().change(|line| {
                line.requests.push(id);
                if line.requests.len() == 2 {
                    let both = line.requests.iter().map(|id| Message::Answer(*id));
                    line.to_client.extend(both);
                }
            });
            true
        };
        let others = [(); 2].map(|()| client.spawn(Deadline::NEVER, together));
        let me = client.call(Deadline::NEVER, |_, _| false);
        assert_eq!(me, Err(NOT_SENT));
        // For the case that it is the one that reads.
        client.pass_the_deadline();
        for other in others {
            assert!(other.join().unwrap().is_ok());
        }
    });
}

/// A thread that cannot send until somebody has read is not waited for by those whose answers are there.
#[test]
fn who_sends_is_not_chosen_to_read() {
    explore(Some(3), || {
        let client = Client::new(9);
        let others = [(); 2].map(|()| client.spawn(Deadline::NEVER, answered));
        // The server takes this request when both its answers have been read.
        let held_up = client.call(Deadline::NEVER, |client, id| {
            let mut line = client.wire().line.lock();
            while line.received.len() < 2 {
                line = client.wire().changed.wait(line).unwrap();
            }
            drop(line);
            answered(client, id)
        });
        assert!(held_up.is_ok());
        for other in others {
            assert!(other.join().unwrap().is_ok());
        }
    });
}

/// The same where it waited for room before, and read meanwhile.
#[test]
fn who_gets_room_and_sends_hands_over() {
    explore(Some(3), || {
        let client = Client::new(2);
        // The server takes the third request when it has got rid of the answers to the others.
        let send = |client: &Client, id| {
            let mut line = client.wire().line.lock();
            line.requests.push(id);
            while line.requests.len() == 3 && line.received.len() < 2 {
                line = client.wire().changed.wait(line).unwrap();
            }
            drop(line);
            answered(client, id)
        };
        let others = [(); 2].map(|()| client.spawn(Deadline::NEVER, send));
        assert!(client.call(Deadline::NEVER, send).is_ok());
        for other in others {
            assert!(other.join().unwrap().is_ok());
        }
    });
}

/// The same where it tried to read before it went on waiting to send.
#[test]
fn who_has_read_and_sends_hands_over() {
    explore(Some(4), || {
        let client = Client::new(9);
        let other = client.spawn(Deadline::NEVER, answered);
        let held_up = client.call(Deadline::NEVER, |client, id| {
            client.link().read_if_none_does();
            let mut line = client.wire().line.lock();
            while line.received.is_empty() {
                line = client.wire().changed.wait(line).unwrap();
            }
            drop(line);
            answered(client, id)
        });
        assert!(held_up.is_ok());
        assert!(other.join().unwrap().is_ok());
    });
}

/// A thread that cannot send reads itself what its server waits to get rid of.
#[test]
fn who_cannot_send_reads() {
    explore(Some(4), || {
        let client = Client::new(9);
        let other = client.spawn(Deadline::NEVER, answered);
        let held_up = client.call(Deadline::NEVER, |client, id| {
            // The server takes this request when the other's answer has been read, by whomever.
            loop {
                client.link().read_if_none_does();
                let mut line = client.wire().line.lock();
                while line.received.is_empty() && (line.to_client.is_empty() || line.receiving) {
                    line = client.wire().changed.wait(line).unwrap();
                }
                if !line.received.is_empty() {
                    break;
                }
                // Somebody is about to receive.
                drop(line);
                thread::yield_now();
            }
            answered(client, id)
        });
        assert!(held_up.is_ok());
        assert!(other.join().unwrap().is_ok());
    });
}

#[test]
fn the_end_wakes_all() {
    explore(Some(2), || {
        let client = Client::new(2);
        let callers = [(); 3].map(|()| client.spawn(Deadline::NEVER, unanswered));
        client.link().close();
        for caller in callers {
            // One may not have begun yet.
            let ended = caller.join().unwrap();
            assert!(
                matches!(ended, Err(CallError::Disconnected { .. })),
                "{ended:?}"
            );
        }
    });
}

/// What came before the end is still read.
#[test]
fn the_end_comes_after_the_answers() {
    explore(None, || {
        let client = Client::new(9);
        let send = |client: &Client, id| {
            client.wire().change(|line| {
                line.requests.push(id);
                line.to_client.push_back(Message::Answer(id));
                line.closed = line.requests.len() == 2;
            });
            true
        };
        let other = client.spawn(Deadline::NEVER, send);
        assert!(client.call(Deadline::NEVER, send).is_ok());
        assert!(other.join().unwrap().is_ok());
    });
}
