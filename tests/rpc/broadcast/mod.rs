//! One item for many streams: on threads, on tokio, and all pairs of them.

mod service;

use pipetalk::{Codec, DefaultCodec, Event};

use service as drivers;

util::pairs! {
    threads: filters suite;
    tasks: filters suite;
    threads_call_tasks: filters suite;
    threads_call_blocking_tasks: filters suite;
    tasks_call_threads: filters suite;
}

#[test]
fn an_event_is_on_the_wire_as_a_result_is() {
    let _limit = util::limit(util::here!());
    let encode = |event: &Event<u16>| {
        let mut bytes = Vec::new();
        DefaultCodec::encode(event, &mut bytes).unwrap();
        let decoded: Event<u16> = DefaultCodec::decode(&bytes).unwrap();
        assert_eq!(decoded, *event);
        bytes
    };
    assert_eq!(encode(&Event::Item(7)), [0, 7]);
    assert_eq!(encode(&Event::Missed(9)), [1, 9]);
    assert!(DefaultCodec::decode::<Event<u16>>(&[2, 9]).is_err());
}
