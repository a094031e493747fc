//! What a call can end with: a value, an error of the service's own, a panic in the handler, a time-out.
//!
//! ```text
//! cargo run --example calculator
//! ```

use std::fmt;
use std::io;
use std::thread;
use std::time::Duration;

use pipetalk::{Call, CallError, CallOptions, Client, Server};
use serde_derive::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
enum Request {
    Add(i64, i64),
    Divide(i64, i64),
    /// Whoever wrote this forgot something.
    Remainder(i64, i64),
    /// By counting, which takes a while.
    SumUpTo(u64),
}

type Reply = Result<i64, MathError>;

#[derive(Debug, Serialize, Deserialize)]
enum MathError {
    DivisionByZero,
    Overflow,
}

fn calculate(request: Request, call: &Call) -> Reply {
    match request {
        Request::Add(a, b) => a.checked_add(b).ok_or(MathError::Overflow),
        Request::Divide(_, 0) => Err(MathError::DivisionByZero),
        Request::Divide(a, b) => a.checked_div(b).ok_or(MathError::Overflow),
        Request::Remainder(a, b) => Ok(a % b),
        Request::SumUpTo(last) => {
            let mut sum = 0i64;
            for number in 0..=last {
                // Nobody waits any more: what is returned is dropped.
                if number % 1000 == 0 && call.is_cancelled() {
                    break;
                }
                sum = sum.wrapping_add_unsigned(number);
            }
            Ok(sum)
        }
    }
}

fn main() -> io::Result<()> {
    let name = format!("pipetalk-calculator-{}", std::process::id());
    let server = Server::bind(&name)?;
    let end = server.handle();
    let serving = thread::spawn(move || server.serve(calculate));

    let client = Client::<Request, Reply>::connect(&name)?;
    let usual = CallOptions::new();
    for (what, request, options) in [
        ("3 + 4", Request::Add(3, 4), usual),
        ("7 / 2", Request::Divide(7, 2), usual),
        ("7 / 0", Request::Divide(7, 0), usual),
        ("7 % 0", Request::Remainder(7, 0), usual),
        (
            "1 + 2 + 3 + ..., in 100 ms",
            Request::SumUpTo(u64::MAX),
            usual.deadline(Duration::from_millis(100)),
        ),
        ("1 + 2 + ... + 100", Request::SumUpTo(100), usual),
    ] {
        println!("{what}: {}", Outcome(client.call_with(&request, options)));
    }

    end.drain(Duration::from_secs(5));
    serving.join().unwrap_or(Ok(()))
}

/// What the service answers, and what becomes of a call, are two things.
struct Outcome(Result<Reply, CallError>);

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Ok(Ok(number)) => write!(f, "{number}"),
            Ok(Err(MathError::DivisionByZero)) => f.write_str("the service says: division by zero"),
            Ok(Err(MathError::Overflow)) => f.write_str("the service says: too large"),
            Err(error) => write!(f, "the call failed: {error}"),
        }
    }
}
