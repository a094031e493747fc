//! What the compiler says of a mistake in `service!`: it points at the user's own line, and says what is wrong.
//!
//! Each program in `tests/ui/` is compiled against the crate as it was built for these tests, and what the compiler says is
//! compared with the file beside it. `PIPETALK_OVERWRITE=1` writes down what it says now.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use util::{here, limit, skip, variable};

/// The compiler whose words these are; every other has its own.
const COMPILER: &str = "rustc 1.95.0 ";

/// What can be compiled with the crate as it is built for these tests.
const RIGHT: &str = "
    pipetalk::service! {
        pub trait Kv {
            fn get(key: String) -> Option<String>;
        }
        pub struct KvClient;
        pub async trait AsyncKv;
        pub async struct AsyncKvClient;
    }
    fn main() {}
";

struct Compiler {
    program: PathBuf,
    /// Where Cargo puts what it has built.
    built: PathBuf,
    scratch: TempDir,
    tests: PathBuf,
}

impl Compiler {
    fn new() -> Compiler {
        let exe = env::current_exe().unwrap();
        Compiler {
            program: env::var_os("RUSTC").map_or_else(|| "rustc".into(), PathBuf::from),
            built: exe.parent().unwrap().to_owned(),
            scratch: TempDir::new().unwrap(),
            tests: PathBuf::from(env!("CARGO_MANIFEST_DIR")),
        }
    }

    fn is_known(&self) -> bool {
        let version = Command::new(&self.program)
            .arg("--version")
            .output()
            .unwrap();
        let version = String::from_utf8_lossy(&version.stdout);
        let known = version.starts_with(COMPILER);
        if !known {
            let why = format!("they are those of {COMPILER}, and this is {version}");
            skip("the compiler's words", &why);
        }
        known
    }

    fn compile(&self, source: &Path, library: &Path) -> Output {
        let mut library_is = std::ffi::OsString::from("pipetalk=");
        library_is.push(library);
        let mut dependencies = std::ffi::OsString::from("dependency=");
        dependencies.push(&self.built);
        Command::new(&self.program)
            .current_dir(self.tests.parent().unwrap())
            // With it the compiler suggests more.
            .env_remove("RUSTC_BOOTSTRAP")
            .args(["--edition=2024", "--crate-type=bin", "--emit=metadata"])
            .args(["--color=never", "--diagnostic-width=140"])
            .arg("--out-dir")
            .arg(self.scratch.path())
            .arg("--extern")
            .arg(library_is)
            .arg("-L")
            .arg(dependencies)
            .arg(source)
            .output()
            .unwrap()
    }

    /// The crate as it was built last with all that these programs use: there may be others beside it.
    fn rlib(&self) -> PathBuf {
        let right = self.scratch.path().join("right.rs");
        fs::write(&right, RIGHT).unwrap();
        let mut libraries: Vec<_> = fs::read_dir(&self.built)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                let name = path.file_name().unwrap().to_string_lossy();
                name.starts_with("libpipetalk-") && name.ends_with(".rlib")
            })
            .collect();
        libraries.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
        let library = libraries
            .into_iter()
            .rev()
            .find(|library| self.compile(&right, library).status.success());
        library.expect("the crate has been built beside these tests")
    }
}

/// What the compiler says, without what changes with the machine, and with the lines and the number of the crate's own files.
fn plain(said: &str, tests: &Path) -> String {
    let workspace = format!("{}/", tests.parent().unwrap().display());
    let mut plain = String::new();
    // Whether the lines of a program that follow are not the user's.
    let mut of_others = false;
    for line in said.lines() {
        let line = line.replace(&workspace, "");
        let text = line.trim();
        let after_number = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = &text[..text.len() - after_number.len()];
        let code = after_number.trim_start();
        let is_code = code == "|" || code.starts_with("| ") || !number.is_empty();
        let put = if let Some(place) = text
            .strip_prefix("--> ")
            .or_else(|| text.strip_prefix("::: "))
        {
            of_others = !place.starts_with("tests/ui/");
            let (arrow, file) = text.split_at(4);
            match of_others {
                true => format!("  {arrow}{}", file.split(':').next().unwrap_or_default()),
                false => format!("  {text}"),
            }
        } else if is_code || text.starts_with("...") {
            match of_others {
                true => continue,
                false if is_code => format!("{number:>4} {code}"),
                false => format!("...  {}", text.trim_start_matches('.').trim_start()),
            }
        } else if [
            "error: aborting",
            "Some errors have",
            "For more information",
        ]
        .iter()
        .any(|ends| text.starts_with(ends))
        {
            continue;
        } else if text.starts_with("and ") && text.ends_with(" others") {
            "        and others".to_owned()
        } else if line.starts_with(' ') {
            let indent = if text.starts_with("= ") { 4 } else { 8 };
            format!("{:indent$}{text}", "")
        } else {
            text.to_owned()
        };
        plain += put.trim_end();
        plain.push('\n');
    }
    plain.trim_end().to_owned() + "\n"
}

#[test]
fn mistakes_are_shown_where_they_are_made() {
    let _limit = limit(here!());
    let compiler = Compiler::new();
    if !compiler.is_known() {
        return;
    }
    let library = compiler.rlib();
    let mut programs: Vec<_> = fs::read_dir(compiler.tests.join("ui"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    programs.sort();
    assert!(programs.len() > 20, "{programs:?}");
    let mut failures = Vec::new();
    for program in programs {
        let name = program
            .strip_prefix(compiler.tests.parent().unwrap())
            .unwrap();
        let output = compiler.compile(name, &library);
        assert!(!output.status.success(), "{} is no mistake", name.display());
        let said = plain(&String::from_utf8_lossy(&output.stderr), &compiler.tests);
        let expected = program.with_extension("stderr");
        if variable::<u32>("PIPETALK_OVERWRITE").is_some() {
            fs::write(&expected, said).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != said {
            failures.push(format!("{}:\n{said}", name.display()));
        }
    }
    assert!(
        failures.is_empty(),
        "what the compiler says now of these is not what it said:\n\n{}",
        failures.join("\n")
    );
}
