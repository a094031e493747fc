//! What whoever may rename in the directory of a socket puts in its place.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pipetalk::{Access, ListenOptions, LocalListener};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::harness::*;
use util::{here, limit};

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

/// Binds for everyone while another thread swaps what is at the path for what is at another; says how often it came to
/// that.
fn swapped_while_binding(rng: &mut Rng, place: &Place, with: &Path) -> bool {
    let (barrier, over) = (Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        let mut swapping_rng = rng.fork();
        let (barrier, over) = (&barrier, &over);
        let swapping = scope.spawn(move || {
            barrier.wait();
            swapping_rng.shake();
            while !over.load(Ordering::SeqCst) {
                if renameat_with(CWD, place.path(), CWD, with, RenameFlags::EXCHANGE).is_ok() {
                    return true;
                }
            }
            false
        });
        barrier.wait();
        let bound = ListenOptions::new()
            .access(Access::Everyone)
            .bind(place.name());
        over.store(true, Ordering::SeqCst);
        let swapped = swapping.join().unwrap();
        match bound {
            Ok(_) => {}
            Err(error) => {
                assert!(swapped, "{error}");
                assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            }
        }
        swapped
    })
}

#[test]
fn i04_nothing_that_is_put_in_the_place_of_the_socket_is_opened_to_others() {
    let _limit = limit(here!());
    let place = Place::new();
    let directory = place.directory();
    let (precious, aside) = (directory.join("precious"), directory.join("aside"));
    fs::write(&precious, "precious").unwrap();
    fs::set_permissions(&precious, Permissions::from_mode(0o600)).unwrap();
    let mut rng = Rng::new();
    let mut swaps = 0;
    for round in 0..rounds(6_000) {
        // A link, the file itself, another name of it, and another socket that listens.
        let mut other = None;
        match round % 4 {
            0 => symlink(&precious, &aside).unwrap(),
            1 => fs::rename(&precious, &aside).unwrap(),
            2 => fs::hard_link(&precious, &aside).unwrap(),
            _ => other = Some(LocalListener::bind(aside.to_str().unwrap()).unwrap()),
        }
        let swapped = swapped_while_binding(&mut rng, &place, &aside);
        swaps += u32::from(swapped);
        let put = if swapped { place.path() } else { &aside };
        assert_eq!(mode(put), 0o600, "round {round}");
        if round % 4 == 1 {
            fs::rename(put, &precious).unwrap();
        }
        drop(other);
        for path in [place.path(), &aside] {
            let _ = fs::remove_file(path);
        }
    }
    assert!(swaps > 0);
}
