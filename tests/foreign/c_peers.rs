//! The programs in C: how to get at them, and what is known of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::programs::PATIENCE;

/// The buffer of the C programs.
pub(crate) const C_BUFFER: usize = 512;
/// Replies around that buffer's size: shorter, as long, longer, and in many parts.
pub(crate) const SIZES: [usize; 10] = [0, 1, 10, 511, 512, 513, 1024, 1025, 5_000, 100_000];

/// The answer of that many bytes, as `message_server` makes it; printable, and without a short period.
pub(crate) fn pattern(size: usize) -> Vec<u8> {
    (b'!'..b'!' + 89).cycle().take(size).collect()
}

pub(crate) struct CPeers {
    pub(crate) client: PathBuf,
    pub(crate) server: PathBuf,
}

/// The C programs, or why there are none.
pub(crate) fn c_peers() -> Result<&'static CPeers, &'static str> {
    static C_PEERS: OnceLock<Result<CPeers, String>> = OnceLock::new();
    let c_peers = C_PEERS.get_or_init(|| {
        let given = std::env::var("PIPETALK_C_PEERS").ok();
        let program = |name: &str| match &given {
            Some(dir) => Ok(format!("{dir}/{name}.exe").into()),
            None => compiled(name),
        };
        Ok(CPeers {
            client: program("message_client")?,
            server: program("message_server")?,
        })
    });
    c_peers.as_ref().map_err(String::as_str)
}

/// The program that a C file makes; it is kept for the next time. All paths are written with slashes, which
/// do for Windows as well as for what is around Wine.
fn compiled(name: &str) -> Result<PathBuf, String> {
    const CRATE: &str = env!("CARGO_MANIFEST_DIR");
    const KEPT: &str = env!("CARGO_TARGET_TMPDIR");
    let source = format!("{CRATE}/c/{name}.c");
    let program = format!("{KEPT}/{name}.exe");

    let modified = |path: &str| fs::metadata(path).and_then(|file| file.modified());
    let sources = [&source, &format!("{CRATE}/foreign/c_peers.rs")]
        .map(|path| modified(path).expect("a source that is there"));
    let made = modified(&program);
    if made.is_ok_and(|made| sources.iter().all(|source| made > *source)) {
        return Ok(program.into());
    }

    let new = format!("{KEPT}/{name}-{}.exe", std::process::id());
    let around_wine = CRATE.starts_with('/') && Path::new("/bin/sh").exists();
    if around_wine {
        compile_around_wine(&source, &new)?
    } else {
        compile(&source, &new)?
    }
    fs::rename(&new, &program).unwrap();
    Ok(program.into())
}

const GCC_FLAGS: [&str; 2] = ["-std=c99", "-O1"];

fn compile(source: &str, program: &str) -> Result<(), String> {
    let gcc = [&GCC_FLAGS, &["-o", program, source][..]].concat();
    let (out, object) = (format!("-Fe{program}"), format!("-Fo{program}.obj"));
    let cl = vec!["-nologo", "-O1", source, &out, &object];
    for (compiler, args) in [
        ("x86_64-w64-mingw32-gcc", &gcc),
        ("gcc", &gcc),
        ("clang", &gcc),
        ("cl", &cl),
    ] {
        match Command::new(compiler).args(args).output() {
            Ok(output) => {
                assert!(output.status.success(), "{compiler} {source}: {output:?}");
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("{compiler} does not start: {error}"),
        }
    }
    Err("no C compiler here: neither x86_64-w64-mingw32-gcc, gcc, clang nor cl".to_owned())
}

/// A process under Wine can start a program of the system around it, but it gets no handle to wait for it by:
/// a shell puts the exit code into a file.
fn compile_around_wine(source: &str, program: &str) -> Result<(), String> {
    const SCRIPT: &str = r#"
        program=$1; shift
        "$@" >"$program.log" 2>&1
        echo $? >"$program.code"
    "#;
    let (code, log) = (format!("{program}.code"), format!("{program}.log"));
    Command::new("/bin/sh")
        .args(["-c", SCRIPT, "sh", program, "x86_64-w64-mingw32-gcc"])
        .args(GCC_FLAGS)
        .args(["-o", program, source])
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("no shell around Wine: {error}"))?;

    let started = Instant::now();
    let mut ended = String::new();
    while !ended.ends_with('\n') {
        assert!(started.elapsed() < PATIENCE, "the compiler does not end");
        thread::sleep(Duration::from_millis(10));
        ended = fs::read_to_string(&code).unwrap_or_default();
    }
    let output = fs::read_to_string(&log).unwrap_or_default();
    let _ = fs::remove_file(&log);
    let _ = fs::remove_file(&code);
    match ended.trim() {
        "0" => Ok(()),
        "127" => Err(format!("no C compiler around Wine: {}", output.trim())),
        code => panic!("compiling {source} ended with {code}: {output}"),
    }
}
