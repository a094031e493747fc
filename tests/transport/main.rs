//! The conformance suite: what `Stream` and `Listener` promise, item by item, on every transport.
//!
//! A test is named after the item that it proves, and runs as `memory::m05_...` and as `local::m05_...`, which is
//! the platform's own transport; with feature `tokio` also as `async_memory::m05_...` and `async_local::m05_...`.
//! What only one platform has is in `unix.rs`, `linux.rs` or `windows.rs`. The test
//! `table_of_items` prints which item is proven where, and fails if one is not.
//!
//! The variables that repeat a run, or make it thorough, are in `tests/README.md`.

#![allow(
    clippy::unwrap_used,
    reason = "a test says what it expects by unwrapping it"
)]

mod actors;
mod connecting;
mod duplex;
mod ending;
mod harness;
mod identity;
mod limits;
mod listening;
mod messages;
mod mirror;
mod names;
mod peek;
mod requests;
mod stress;
mod table;
mod unfinished;

#[cfg(feature = "tokio")]
mod dropping;
#[cfg(feature = "tokio")]
mod no_runtime;
#[cfg(feature = "tokio")]
mod on_tokio;
#[cfg(all(windows, feature = "tokio"))]
mod overlapped;
#[cfg(feature = "tokio")]
mod provided;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;
#[cfg(unix)]
mod wire;

#[global_allocator]
static ALLOCATOR: util::scarce::Scarce = util::scarce::Scarce;

#[cfg(target_os = "linux")]
use linux::{
    failing as linux_failing, forks as linux_forks, lingering as linux_lingering,
    namespaces as linux_namespaces, signals as linux_signals,
};
#[cfg(unix)]
use unix::descriptors as unix_descriptors;
#[cfg(unix)]
use unix::places as unix_places;
#[cfg(windows)]
use windows::room as windows_room;

#[cfg(target_os = "linux")]
use linux::platform_part;
#[cfg(all(unix, not(target_os = "linux")))]
use unix::platform_part;
#[cfg(windows)]
use windows::platform_part;

/// Makes a test of each function of the suite, with a limit on its time.
macro_rules! tests {
    (<$transport:ty> $($module:ident { $($test:ident)+ })+) => {
        $($( tests! { @one $test crate::$module::$test::<$transport> } )+)+
    };
    ($($module:ident { $($test:ident)+ })+) => {
        $($( tests! { @one $test crate::$module::$test } )+)+
    };
    (@one $test:ident $run:expr) => {
        #[test]
        fn $test() {
            let _limit = util::limit(concat!(module_path!(), "::", stringify!($test)));
            $run();
        }
    };
}

/// The tests that every transport has to pass.
macro_rules! conformance {
    ($transport:ty) => {
        tests! { <$transport>
            listening {
                l05_a_dial_after_an_accept_never_meets_a_gap
                l05_dials_at_once_never_meet_a_gap
                l06_there_is_no_limit_unless_one_is_set
                l06_the_dial_over_the_limit_is_busy
                l06_the_limit_holds_and_serves_everybody_in_the_end
                l07_a_dialer_that_leaves_before_accept_is_accepted_and_read
                l08_stopping_wakes_accept_and_swallows_no_later_client
                l08_streams_that_were_accepted_go_on
                l08_dropping_a_listener_stops_it
                l09_running_out_of_instances_does_not_end_the_accept_loop
            }
            connecting {
                c01_nobody_listens_is_not_found_at_once
                c02_all_busy_is_waited_for_until_the_deadline
                c02_a_busy_server_is_reached_once_it_has_room
                c04_a_thousand_connects_and_closes
            }
            messages {
                m01_each_send_arrives_as_one_message
                m01_messages_that_wait_together_stay_apart
                m01_pieces_arrive_as_one_message
                m02_a_short_buffer_takes_a_message_in_parts
                m02_a_buffer_that_fits_exactly_takes_the_last_part
                m02_each_part_but_the_last_fills_the_buffer
                m02_a_buffer_of_nothing_takes_nothing
                m02_a_buffer_of_nothing_waits_for_a_message
                m02_what_a_buffer_of_nothing_has_seen_is_received
                m03_a_receive_grows_its_vector_to_fit_and_no_further
                m04_a_small_message_over_the_limit_is_told_after_a_look
                m05_an_empty_message_is_not_the_end
                m05_an_empty_message_wakes_a_receiver_that_waits
                m06_an_empty_message_then_close_is_a_message_then_the_end
                m07_writers_on_several_threads_never_interleave
                m08_a_message_larger_than_every_buffer_arrives_whole
            }
            limits {
                m04_a_message_over_the_limit_is_told_and_the_next_is_intact
                m04_a_message_over_limit_and_buffers_is_told_while_it_comes
                m04_a_dropped_message_is_not_seen_in_parts_either
                m04_what_no_receiver_could_take_is_refused_by_the_sender
                m04_where_memory_is_short_a_message_costs_only_itself
            }
            unfinished {
                m09_a_writer_that_closes_in_mid_message_is_truncated
                m09_a_whole_receive_is_whole_or_truncated
                m10_a_send_that_timed_out_never_leaves_half_a_message
                m10_a_send_that_stopped_half_way_closes_for_good
                m11_a_receive_that_timed_out_loses_nothing
            }
            peek {
                m13_peek_says_what_waits_and_takes_nothing
                m13_peek_of_a_large_message_says_all_of_it
                m13_peek_of_an_empty_message_and_of_the_end
                m13_peek_never_waits_for_a_thread_that_receives
            }
            requests {
                m14_transact_sends_and_receives_the_reply
                m14_a_reply_over_the_buffer_continues_in_parts
                m14_with_unread_data_waiting_it_is_busy_and_nothing_is_sent
                m14_any_message_that_waits_is_busy_and_is_kept
                m14_nobody_else_gets_the_reply
                m14_a_transaction_that_timed_out_closes_for_good
                m14_a_peer_that_closes_without_a_reply_is_the_end
            }
            duplex {
                d01_a_blocked_receive_never_holds_up_a_send
                d01_a_blocked_send_never_holds_up_a_receive
                d01_both_ends_may_send_at_once_while_both_receive
                d01_a_send_that_receives_meanwhile_is_never_waited_for_in_a_circle
                d01_a_send_that_receives_meanwhile_has_a_deadline
                d02_every_call_that_waits_gives_up_at_its_deadline
                d02_what_was_sent_before_the_buffers_were_full_arrives
                d02_a_deadline_that_has_passed_still_does_what_needs_no_waiting
                d02_a_second_thread_that_waits_its_turn_has_a_deadline_too
                d02_one_deadline_covers_several_calls
                d02_a_peer_that_reads_slowly_gives_no_send_more_time
                d03_the_buffer_of_a_cancelled_receive_stays_untouched
                d03_the_buffer_of_a_send_is_the_callers_again_afterwards
                d03_a_panic_while_a_send_waits_ends_the_send_first
                d04_closing_wakes_a_blocked_receive
                d04_closing_wakes_a_blocked_send
                d04_closing_wakes_everybody_who_waits
                d04_the_peer_closing_wakes_a_blocked_receive
            }
            ending {
                e01_after_close_every_message_is_read_and_then_the_end
                e01_what_was_sent_waits_for_a_peer_that_reads_later
                e02_closing_with_input_unread_loses_nothing_that_was_sent
                e03_sending_to_a_closed_peer_is_a_broken_pipe
                e03_a_peer_that_closes_under_a_blocked_send_is_a_broken_pipe
                e04_a_final_reply_is_never_lost_by_closing_at_once
                e04_a_peer_that_never_reads_holds_up_nobodys_close
                e05_abort_drops_what_is_unread
                e05_abort_wakes_whoever_waits
                e06_the_client_of_an_aborted_connection_never_sees_the_next_ones_data
            }
            identity {
                i01_both_ends_know_the_others_process_and_user
            }
            stress {
                stress_full_duplex_one_sender_each_way
                stress_full_duplex_two_senders_each_way
                stress_clients_at_once
            }
        }
    };
}

/// What a send calls back, on the transports that have such sends.
macro_rules! calling_back {
    ($transport:ty) => {
        tests! { <$transport>
            duplex {
                d01_a_send_within_a_send_that_calls_back_is_refused
                d04_closing_within_a_send_that_calls_back_ends_it
                d04_a_pipe_that_was_closed_within_a_send_makes_room_for_another
            }
        }
    };
}

mod memory {
    conformance!(crate::harness::Memory);
    calling_back!(crate::harness::Memory);
}

mod spinning {
    conformance!(crate::harness::Spinning);
    calling_back!(crate::harness::Spinning);
}

/// What takes a name, another process or the system, on every transport that has names.
macro_rules! named {
    ($transport:ty) => {
        tests! { <$transport>
            listening {
                l01_a_name_in_use_is_addr_in_use
                l01_a_name_in_use_by_another_process_is_addr_in_use
                l02_the_name_of_a_crashed_process_is_taken_over
                l02_a_name_that_was_given_back_is_free
                l08_the_next_listener_at_the_name_gets_the_later_client
                l10_a_child_process_inherits_nothing
                l06_options_that_cannot_be_are_refused
            }
            connecting {
                c01_a_name_that_never_was_is_not_found
                c03_a_server_that_is_still_starting_is_waited_for
                c03_a_server_that_does_not_start_is_waited_for_until_the_deadline
            }
            unfinished {
                m09_a_process_that_dies_in_mid_message_is_truncated
            }
            requests {
                m15_call_connects_asks_and_closes
                m15_call_fails_by_one_deadline_and_in_words
            }
            identity {
                i01_another_process_is_known_by_its_id
                i03_a_client_talks_to_whom_it_trusts
                i03_a_server_of_another_user_is_not_trusted
                i04_a_stopped_listener_shows_no_access
                i05_a_failed_impersonation_never_runs_the_closure
            }
        }

        #[cfg(unix)]
        tests! { <$transport>
            unix {
                d02_room_that_comes_bit_by_bit_gives_no_send_more_time
                e01_a_peer_that_shuts_down_its_sending_can_still_receive
                e02_a_reset_counts_as_the_end_once_drained
                i05_impersonation_is_unsupported
                m12_there_is_no_byte_mode
            }
            unix_descriptors {
                i07_unexpected_descriptors_are_closed
                l06_at_the_limit_of_descriptors_clients_are_counted_all_the_same
                l09_running_out_of_descriptors_is_waited_out
            }
            unix_places {
                c01_not_found_names_the_places_and_nothing_is_created
                c03_a_server_is_waited_for_at_a_place_that_comes_later
                n01_a_server_in_the_usual_temporary_directory_is_found_from_another
                n01_a_server_of_before_the_log_in_is_found_after_it
                n05_a_relative_path_stays_where_it_was_bound
            }
        }

        #[cfg(windows)]
        tests! { <$transport>
            windows {
                c05_a_byte_type_pipe_is_read_when_asked_for
                c05_a_one_way_pipe_is_told_by_the_call_that_goes_the_other_way
                c05_an_inbound_only_pipe_is_opened_to_send
                c05_an_inbound_only_pipe_of_byte_type_is_reported_too
                c05_an_outbound_only_pipe_is_opened_to_receive
                c05_the_client_reads_in_message_mode
                c06_a_client_lets_nobody_act_in_its_name_unless_asked_to
                c06_a_client_needs_no_right_to_create_instances
                i02_by_default_the_pipe_is_its_users_only
                i03_the_owner_of_the_pipe_is_the_servers_user
                i04_access_is_asked_for_in_words_and_shown
                i04_access_that_cannot_be_is_refused_in_words
                i05_the_server_acts_as_the_client_that_lets_it
                l01_a_foreign_listener_is_addr_in_use
                l02_a_name_that_is_kept_with_another_access_is_in_use
                l02_clients_of_a_listener_that_has_gone_do_not_keep_its_name
                l02_of_several_that_start_beside_a_client_that_stays_one_listens
                l11_a_byte_type_pipe_cannot_be_opened_in_message_mode
                m12_a_foreign_byte_mode_reader_gets_the_bytes
                m12_byte_read_mode_on_either_end_loses_the_boundaries_only
                m12_each_write_of_a_foreign_byte_mode_writer_is_a_message
                n01_a_portable_name_is_that_pipe
                n02_the_pipe_is_found_in_any_case
                n05_a_pipe_of_another_machine_can_only_be_connected_to
                n05_a_socket_path_is_unsupported
            }
            windows_room {
                m10_a_message_that_fits_the_pipe_goes_or_is_taken_back
                m10_a_message_that_waits_for_room_is_taken_back_whole
            }
        }

        #[cfg(target_os = "linux")]
        tests! { <$transport>
            linux {
                c02_a_full_backlog_is_busy_and_never_success
                c02_a_full_backlog_is_waited_for
                c04_a_thousand_connects_leave_no_descriptor_behind
                l09_waiting_for_descriptors_costs_no_processor_time
            }
            linux_forks {
                l03_what_a_child_lets_go_of_its_parent_still_has
            }
            linux_failing {
                m10_a_send_that_failed_half_way_closes_for_good
                m14_a_transaction_that_failed_closes_for_good
            }
            linux_lingering {
                e04_unread_descriptors_hold_up_no_close
                i06_the_descriptors_of_a_stranger_hold_up_no_accept
                i07_a_descriptor_that_is_sent_out_of_band_holds_up_nobody
                i07_a_descriptor_that_lingers_holds_up_no_receive
                i07_a_flood_of_descriptors_ends_the_flooding_connection_alone
                l08_descriptors_in_the_backlog_hold_up_no_stop
                m01_what_is_behind_a_byte_out_of_band_is_received_at_once
            }
            linux_namespaces {
                i01_a_client_without_a_process_id_is_known_by_its_user
                i01_a_server_without_a_process_id_is_known_by_its_user
                i03_a_server_whose_user_has_no_number_is_not_trusted
                i03_whoever_trusts_anyone_is_told_no_user_where_it_has_no_number
                i06_a_client_whose_user_has_no_number_is_not_let_in
            }
            linux_signals {
                d02_signals_give_no_call_more_time
            }
        }
    };
}

/// What is promised beside that where calls are futures.
#[cfg(feature = "tokio")]
macro_rules! dropping {
    ($transport:ty) => {
        tests! { <$transport>
            dropping {
                d05_dropped_receives_lose_nothing
                d05_a_receive_that_does_not_wait_gets_what_a_dropped_one_would_have
                d05_dropped_sends_are_whole_or_nothing
                d05_a_send_that_is_dropped_half_way_closes_or_goes_on
                d05_a_dropped_transaction_closes_for_good
                d05_dropped_accepts_lose_no_connection
                d05_dropped_connects_leave_no_connection
                d05_drops_among_many_tasks_lose_nothing
            }
        }
    };
}

#[cfg(feature = "tokio")]
mod async_memory {
    use crate::on_tokio::Memory;
    use util::on_tokio::ManyThreads;

    conformance!(Memory<ManyThreads>);
    dropping!(Memory<ManyThreads>);
}

#[cfg(feature = "tokio")]
mod async_local {
    use crate::on_tokio::Local;
    use util::on_tokio::ManyThreads;

    conformance!(Local<ManyThreads>);
    named!(Local<ManyThreads>);
    dropping!(Local<ManyThreads>);

    tests! {
        dropping {
            d05_a_dropped_call_leaves_no_connection
        }
    }
}

/// The same on a runtime that whoever waits has to drive.
#[cfg(feature = "tokio")]
mod async_local_on_one_thread {
    use crate::on_tokio::Local;
    use util::on_tokio::OneThread;

    conformance!(Local<OneThread>);
    named!(Local<OneThread>);
    dropping!(Local<OneThread>);
}

mod local {
    conformance!(crate::harness::Local);
    calling_back!(crate::harness::Local);
    named!(crate::harness::Local);

    tests! {
        names {
            n01_a_portable_name_is_found_by_its_pipe_path
            n02_case_does_not_matter
            n02_a_name_in_other_letters_is_in_use
            n03_a_name_over_256_characters_is_refused
            n04_a_name_that_cannot_be_is_refused_in_words
            n05_a_listener_says_the_name_it_listens_at
            n06_a_local_pipe_path_is_accepted
        }
    }
}
