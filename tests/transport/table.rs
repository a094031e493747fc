//! The table of items: which test proves which, on which platform, and whether there is a gap.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::Command;

use util::{PLATFORM, here, limit};

/// An item of the contract, where it applies, and what Wine shows of it: Y, T (by its own tests), D (it
/// deviates), N (it cannot), - (it does not apply).
type Item = (&'static str, &'static str, &'static str, char);

/// Where a test runs: the columns of the table.
const PLATFORMS: [&str; 5] = ["memory", "unix", "windows", ASYNC_MEMORY, ASYNC_LOCAL];
const ASYNC_MEMORY: &str = "async-memory";
const ASYNC_LOCAL: &str = "async-local";

const EVERYWHERE: &str = "memory unix windows async-memory async-local";
const ASYNC: &str = "async-memory async-local";
const BOTH: &str = "unix windows";
const UNIX: &str = "unix";
const WINDOWS: &str = "windows";
const LINUX: &str = if cfg!(any(windows, target_os = "linux")) {
    "unix"
} else {
    ""
};

const ITEMS: [Item; 56] = [
    ("N1", "a portable name becomes the platform's", BOTH, 'Y'),
    ("N2", "case does not matter", BOTH, 'Y'),
    (
        "N3",
        "names are limited in length, and the limit is said",
        BOTH,
        'D',
    ),
    (
        "N4",
        "what cannot be a name is refused before any call",
        BOTH,
        'D',
    ),
    ("N5", "a full pipe path is accepted", BOTH, 'Y'),
    ("N6", r"\\.\pipe\LOCAL\NAME is accepted", BOTH, 'N'),
    ("L1", "a name in use is AddrInUse", BOTH, 'D'),
    (
        "L2",
        "a crashed process's name is taken over, and only such a name",
        BOTH,
        'Y',
    ),
    (
        "L3",
        "dropping a listener never removes a successor's socket",
        UNIX,
        '-',
    ),
    (
        "L4",
        "what is not ours at the path is never touched",
        UNIX,
        '-',
    ),
    ("L5", "a dial never meets a gap", EVERYWHERE, 'Y'),
    (
        "L6",
        "unlimited instances, or a limit that gives Busy",
        EVERYWHERE,
        'Y',
    ),
    (
        "L7",
        "a dialer that leaves before accept does no harm and is read",
        EVERYWHERE,
        'Y',
    ),
    (
        "L8",
        "accept can be stopped; no later client is swallowed",
        EVERYWHERE,
        'Y',
    ),
    (
        "L9",
        "running out of descriptors or handles is survived",
        EVERYWHERE,
        'Y',
    ),
    ("L10", "nothing is inherited by children", BOTH, 'T'),
    (
        "L11",
        "a byte-type pipe cannot be opened in message mode",
        WINDOWS,
        'Y',
    ),
    ("C1", "nobody listens: NotFound at once", EVERYWHERE, 'Y'),
    (
        "C2",
        "all busy: waits until the deadline, or Busy at once",
        EVERYWHERE,
        'Y',
    ),
    (
        "C3",
        "a server that is still starting is waited for",
        BOTH,
        'Y',
    ),
    (
        "C4",
        "1,000 connects and closes without an error",
        EVERYWHERE,
        'Y',
    ),
    (
        "C5",
        "the client reads in message mode, or says that it cannot",
        WINDOWS,
        'Y',
    ),
    (
        "C6",
        "the client asks for no more rights than it needs",
        WINDOWS,
        'N',
    ),
    ("M1", "N sends arrive as N messages", EVERYWHERE, 'Y'),
    ("M2", "a message is read in parts", EVERYWHERE, 'Y'),
    ("M3", "a whole receive sizes itself", EVERYWHERE, 'Y'),
    (
        "M4",
        "a message over the limit is dropped, told, the next intact",
        EVERYWHERE,
        'Y',
    ),
    ("M5", "an empty message is not the end", EVERYWHERE, 'Y'),
    ("M6", "an empty message, then the end", EVERYWHERE, 'T'),
    ("M7", "writers never interleave", EVERYWHERE, 'Y'),
    (
        "M8",
        "a message larger than every buffer arrives whole",
        EVERYWHERE,
        'Y',
    ),
    (
        "M9",
        "a writer that dies in mid-message: Truncated",
        EVERYWHERE,
        'Y',
    ),
    (
        "M10",
        "a send that stopped half-way poisons",
        EVERYWHERE,
        'Y',
    ),
    (
        "M11",
        "a receive that timed out loses nothing",
        EVERYWHERE,
        'Y',
    ),
    ("M12", "foreign byte-mode writers and readers", WINDOWS, 'Y'),
    ("M13", "peek", EVERYWHERE, 'Y'),
    ("M14", "transact", EVERYWHERE, 'Y'),
    ("M15", "call", BOTH, 'Y'),
    (
        "D1",
        "a blocked receive never holds up a send",
        EVERYWHERE,
        'D',
    ),
    (
        "D2",
        "every call that waits has a deadline",
        EVERYWHERE,
        'Y',
    ),
    (
        "D3",
        "a cancelled operation's buffer is left alone",
        EVERYWHERE,
        'Y',
    ),
    ("D4", "closing wakes a blocked receive", EVERYWHERE, 'Y'),
    (
        "D5",
        "a dropped receive loses nothing, a send is whole or nothing",
        ASYNC,
        'Y',
    ),
    (
        "E1",
        "after close every message, then the end",
        EVERYWHERE,
        'Y',
    ),
    (
        "E2",
        "closing with input unread loses nothing sent",
        EVERYWHERE,
        'Y',
    ),
    (
        "E3",
        "sending to a closed peer: BrokenPipe, no signal",
        EVERYWHERE,
        'Y',
    ),
    (
        "E4",
        "a final reply is not lost, and nobody is held up",
        EVERYWHERE,
        'Y',
    ),
    ("E5", "abort drops what is unread", EVERYWHERE, 'Y'),
    (
        "E6",
        "the old client never sees the new one's data",
        EVERYWHERE,
        'T',
    ),
    ("I1", "the peer's process and user", EVERYWHERE, 'N'),
    ("I2", "by default only the same user may connect", BOTH, 'N'),
    ("I3", "a client talks to whom it trusts", BOTH, 'Y'),
    ("I4", "access is asked for in words, and shown", BOTH, 'Y'),
    ("I5", "impersonation, and back", BOTH, 'D'),
    (
        "I6",
        "abstract names: the uid is always checked",
        LINUX,
        '-',
    ),
    ("I7", "unexpected descriptors are closed", UNIX, '-'),
];

/// Under which platform a test stands, by the outermost module that it is in.
fn platform_of(module: &str) -> Option<&'static str> {
    match module {
        "memory" => Some("memory"),
        "local" => Some(PLATFORM),
        "async_memory" => Some(ASYNC_MEMORY),
        "async_local" | "async_local_on_one_thread" => Some(ASYNC_LOCAL),
        "linux" | "unix" => Some("unix"),
        "windows" => Some("windows"),
        _ => None,
    }
}

/// `m05` for `M5`.
fn prefix(item: &str) -> String {
    let (letter, number) = item.split_at(1);
    format!(
        "{}{:02}",
        letter.to_lowercase(),
        number.parse::<u32>().unwrap()
    )
}

/// The tests of this binary as it was built: by item, the name and the platforms.
type Tests = BTreeMap<String, BTreeMap<String, Vec<&'static str>>>;

fn tests() -> Tests {
    let listed = Command::new(env::current_exe().unwrap())
        .arg("--list")
        .output()
        .unwrap();
    assert!(listed.status.success());
    let listed = String::from_utf8(listed.stdout).unwrap();
    let mut tests = Tests::new();
    for path in listed
        .lines()
        .filter_map(|line| line.trim_end().strip_suffix(": test"))
    {
        let Some((module, rest)) = path.split_once("::") else {
            continue;
        };
        let Some(platform) = platform_of(module) else {
            continue;
        };
        let name = rest.rsplit("::").next().unwrap_or(rest);
        let item = name.split('_').next().unwrap_or_default();
        let platforms = tests
            .entry(item.to_owned())
            .or_default()
            .entry(name.to_owned());
        platforms.or_default().push(platform);
    }
    tests
}

#[test]
fn table_of_items() {
    let _limit = limit(here!());
    let mut tests = tests();
    assert!(!tests.is_empty(), "no test was found");
    let mut built = vec!["memory", PLATFORM];
    if cfg!(feature = "tokio") {
        built.extend([ASYNC_MEMORY, ASYNC_LOCAL]);
    }
    let mut gaps = Vec::new();
    let mut table = format!("Items of the contract and their tests, built for {PLATFORM}:\n");
    for (item, what, applies, wine) in ITEMS {
        let of_item = tests.remove(&prefix(item)).unwrap_or_default();
        let mut row = format!("{item:4}{what:<66}");
        for platform in PLATFORMS {
            let count = of_item
                .values()
                .flatten()
                .filter(|p| **p == platform)
                .count();
            let applies = applies.split(' ').any(|p| p == platform);
            let cell = match (applies, built.contains(&platform)) {
                (_, true) if count > 0 => count.to_string(),
                (true, true) => {
                    gaps.push(format!("{item} on {platform}"));
                    "GAP".to_owned()
                }
                (true, false) => "elsewhere".to_owned(),
                (false, _) => "-".to_owned(),
            };
            write!(row, "{platform} {cell:<10}").unwrap();
        }
        writeln!(table, "{row}Wine {wine}").unwrap();
        for (name, platforms) in &of_item {
            writeln!(table, "      {name} ({})", platforms.join(", ")).unwrap();
        }
    }
    if let Some(stress) = tests.remove("stress") {
        writeln!(table, "Stress, not an item").unwrap();
        for (name, platforms) in &stress {
            writeln!(table, "      {name} ({})", platforms.join(", ")).unwrap();
        }
    }
    // Past the capture of the test's output, so that the table is in every log.
    io::stdout().write_all(table.as_bytes()).unwrap();
    assert!(gaps.is_empty(), "no test for {}", gaps.join(", "));
    assert!(tests.is_empty(), "tests of no item: {tests:?}");
}
