//! Kernel TLS in a kernel that has it: a User-Mode Linux guest on this machine's root.
//!
//! [`machine`] boots it, [`guest`] runs the checks inside and judges them outside, [`mark`] is what
//! passes between. Inside, [`stage`] has the box and its content, [`viewer`] and [`curl`] are the
//! clients; [`boxes`] has the listener for other boxes in this very process. `tests/run` installs
//! the peers; without them the tests fail and say what to install.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]
#![allow(clippy::print_stdout, reason = "the guest's console is how it speaks")]

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod support;

#[path = "../peer/lab.rs"]
#[allow(dead_code, reason = "shared with tests that use more of it")]
mod lab;

mod boxes;
mod curl;
mod disks;
mod endings;
mod fallback;
mod guest;
mod health;
mod machine;
mod mark;
mod power;
mod rekey;
mod requests;
mod stage;
mod suites;
mod trace;
mod viewer;
mod zero_copy;

use stage::Stage;

/// A check runs inside and says what it measured; one that fails panics.
type Check = fn(&mut Stage) -> String;

/// Each check is a test of the host by the same name.
macro_rules! checks {
    ($($name:ident: $check:path;)*) => {
        /// In the order in which the guest runs them.
        const CHECKS: &[(&str, Check)] = &[$((stringify!($name), $check)),*];

        $(
            #[test]
            fn $name() {
                guest::judge(stringify!($name));
            }
        )*
    };
}

checks! {
    without_the_module_a_box_that_requires_it_refuses_to_start: fallback::required;
    without_the_module_every_suite_is_served_from_user_space: fallback::serves;
    with_the_module_the_box_says_what_it_does_with_it: health::shown;
    a_viewer_who_has_closed_his_half_is_served_all_the_same: endings::half_closed;
    tls13_aes_128_gcm_is_sent_by_the_kernel: suites::tls13_aes_128;
    tls13_aes_256_gcm_is_sent_by_the_kernel: suites::tls13_aes_256;
    tls13_chacha20_poly1305_is_sent_by_the_kernel: suites::tls13_chacha20;
    tls12_aes_128_gcm_is_sent_by_the_kernel: suites::tls12_aes_128;
    tls12_aes_256_gcm_is_sent_by_the_kernel: suites::tls12_aes_256;
    tls12_chacha20_poly1305_is_sent_by_the_kernel: suites::tls12_chacha20;
    ranges_and_conditions_between_large_bodies: requests::mixed;
    two_hundred_requests_on_one_connection: requests::many;
    pipelined_requests_are_answered_in_order: requests::pipelined;
    requests_may_be_split_over_records_and_packets: requests::split;
    a_request_may_come_with_the_end_of_the_handshake: requests::early;
    small_answers_alone_stay_in_user_space: requests::small;
    a_client_may_change_its_keys_at_any_time: rekey::unasked;
    new_keys_may_be_asked_for_before_the_handover: rekey::asked_before;
    new_keys_asked_for_after_it_end_the_connection_in_order: rekey::asked_after;
    new_keys_asked_for_in_mid_body_let_it_come_to_its_end: rekey::asked_within;
    resets_in_mid_body_leave_nothing_behind: endings::reset;
    a_slow_viewer_gets_everything_and_holds_up_nobody: endings::slow;
    bytes_that_no_key_opens_are_answered_with_an_alert: endings::alert;
    a_viewer_who_closes_is_told_the_same: endings::close;
    no_byte_of_a_file_comes_to_user_space: zero_copy::no_byte;
    an_unreadable_piece_cuts_its_response_and_no_other: disks::unreadable;
    with_the_offload_off_every_byte_does: zero_copy::control;
    no_byte_of_an_object_comes_to_user_space_for_another_box: boxes::no_byte;
    with_the_offload_off_another_box_has_every_byte_of_it: boxes::control;
    nothing_is_left_when_all_is_over: health::nothing_left;
}

/// Outside, the judge of the whole boot; inside, the boot's one test.
#[test]
fn the_guest_runs_every_check_and_powers_itself_off() {
    match guest::boot_number() {
        Some(boot) => guest::run_all(&boot),
        None => guest::judge_all(),
    }
}
