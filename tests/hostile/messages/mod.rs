//! Peers on a Unix socket that die, stall, lie and flood: each gets the error that the contract names, within the
//! deadline and the stated memory, and nobody else notices.

mod crowds;
mod flow;
mod lengths;
mod noise;
mod pieces;
mod town;

#[cfg(feature = "tokio")]
mod on_tokio;

/// The tests, each with a limit on its time, for one kind of those who are to come to no harm.
macro_rules! hostile {
    (@each $kind:ty: $($module:ident { $($test:ident)+ })+) => {$($(
        #[test]
        fn $test() {
            let _together = crate::alone::together();
            let _limit = util::limit(concat!(module_path!(), "::", stringify!($test)));
            crate::messages::$module::$test::<$kind>();
        }
    )+)+};
    ($kind:ty) => {
        hostile! { @each $kind:
            pieces {
                a_peer_that_sends_half_a_header_and_dies_is_truncated
                a_peer_that_dies_within_a_message_is_truncated
                a_peer_that_stalls_costs_its_deadline_and_loses_nothing
                a_message_that_comes_byte_by_byte_is_a_message
                messages_that_come_in_one_piece_are_taken_apart
            }
            lengths {
                a_claim_of_four_gigabytes_is_malformed
                a_malformed_header_is_seen_in_parts_and_by_peek
                a_claim_over_the_limit_is_too_large_at_once_and_costs_no_memory
                what_is_over_the_limit_is_dropped_as_it_comes_and_the_next_is_intact
                a_claim_within_the_limit_costs_little_until_it_is_kept
                lies_about_lengths_cost_no_memory
            }
            flow {
                a_peer_that_never_reads_gets_a_timeout_and_then_nothing_more
                a_peer_that_never_reads_and_dies_is_a_broken_pipe
                a_peer_that_resets_with_data_unread_loses_nothing_of_its_own
                a_peer_that_floods_is_read_as_fast_as_is_asked_for
            }
            crowds {
                many_that_connect_and_say_nothing_hold_nobody_up
                a_listener_is_not_its_clients_hostage
            }
            noise {
                whatever_comes_is_read_as_the_format_says
            }
        }
    };
}

mod blocking {
    hostile!(crate::messages::town::Blocking);
}

#[cfg(feature = "tokio")]
mod async_many_threads {
    hostile!(crate::messages::on_tokio::OnRuntime<util::on_tokio::ManyThreads>);
}

#[cfg(feature = "tokio")]
mod async_one_thread {
    hostile!(crate::messages::on_tokio::OnRuntime<util::on_tokio::OneThread>);
}

/// The parts that other processes play, where nobody else's memory is counted.
pub(crate) fn play(part: &str, args: &[&str]) {
    use lengths::measure;
    match (part, args) {
        ("measure", ["blocking"]) => measure::<town::Blocking>(),
        #[cfg(feature = "tokio")]
        ("measure", ["async"]) => measure::<on_tokio::OnRuntime<util::on_tokio::OneThread>>(),
        _ => panic!("there is no part {part:?} with {args:?}"),
    }
}
