//! The instances of a listener's pipe: the one that waits for the next client, and how many are handed out.

use std::fmt::Debug;
use std::io;
use std::os::windows::io::OwnedHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use windows_sys::Win32::Foundation::{
    ERROR_COMMITMENT_LIMIT, ERROR_NO_SYSTEM_RESOURCES, ERROR_NOT_ENOUGH_MEMORY,
    ERROR_NOT_ENOUGH_QUOTA, ERROR_OUTOFMEMORY, ERROR_PIPE_BUSY, ERROR_TOO_MANY_OPEN_FILES,
};

use super::claim::{System, claim};
use super::parting::Parting;
use super::recipe::Recipe;
use super::security;
use crate::{Error, ListenOptions, ReadMode};

/// How long to wait before trying again when the system has run out of something.
pub(super) const BACKOFF: Duration = Duration::from_millis(50);

/// How whoever waits for room for an instance is woken.
pub(super) trait Bell: Debug + Send + Sync + 'static {
    fn ring(&self);
}

#[derive(Debug)]
pub(super) struct Instances<B, S = Recipe> {
    system: S,
    limit: Option<usize>,
    pub(super) read_mode: ReadMode,
    pub(super) max_message: usize,
    /// Who may connect, as it was read back.
    access: io::Result<String>,
    stopped: AtomicBool,
    /// Rung when there is room for an instance again.
    pub(super) freed: B,
    slot: Mutex<Slot>,
    parting: Mutex<Vec<Parting>>,
}

/// The instance that waits for the next client.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) waiting: Option<OwnedHandle>,
    /// A client is at the waiting instance, but could not be handed out yet.
    pub(super) connected: bool,
    /// Whoever accepts has taken the instance out for the time being.
    pub(super) taken: bool,
    /// How many instances are handed out.
    live: usize,
}

impl Slot {
    /// Whether any instance is there. While there is one, the name is this listener's.
    fn has_name(&self) -> bool {
        self.waiting.is_some() || self.taken || self.live > 0
    }
}

impl<B: Bell> Instances<B> {
    pub(super) fn bind(options: &ListenOptions, path: Vec<u16>, freed: B) -> io::Result<Self> {
        Instances::on(Recipe::new(options, path)?, options, freed)
    }
}

impl<B: Bell, S: System<Instance = OwnedHandle>> Instances<B, S> {
    fn on(system: S, options: &ListenOptions, freed: B) -> io::Result<Self> {
        let first = claim(&system)?;
        Ok(Instances {
            system,
            limit: options.instances,
            read_mode: options.read_mode,
            max_message: options.max_message,
            access: security::sddl_of(&first),
            stopped: AtomicBool::new(false),
            freed,
            slot: Mutex::new(Slot {
                waiting: Some(first),
                ..Slot::default()
            }),
            parting: Mutex::default(),
        })
    }

    pub(super) fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// From here on nobody puts an instance up. The slot's lock is asked for, because that is done under it.
    pub(super) fn stop(&self, _slot: &mut Slot) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    pub(super) fn check_open(&self) -> io::Result<()> {
        if self.is_stopped() {
            Err(Error::Stopped.into())
        } else {
            Ok(())
        }
    }

    pub(super) fn has_room(&self, slot: &Slot) -> bool {
        self.limit.is_none_or(|limit| slot.live < limit)
    }

    /// Creates an instance. Where the last one has gone without a successor, because there could be none created, the
    /// name has been anybody's since, and is to be claimed as if for the first time.
    pub(super) fn create(&self, slot: &Slot) -> io::Result<OwnedHandle> {
        if slot.has_name() {
            self.system.create(false)
        } else {
            claim(&self.system)
        }
    }

    /// Counts the connected instance as handed out, and creates the next one where there may be one. If that fails,
    /// or `parts` does, which makes what the stream needs besides, nothing has changed.
    pub(super) fn succeed<P>(
        &self,
        slot: &mut Slot,
        parts: impl FnOnce() -> io::Result<P>,
    ) -> io::Result<(Option<OwnedHandle>, P)> {
        slot.live += 1;
        let next = if self.has_room(slot) && !self.is_stopped() {
            self.create(slot).map(Some)
        } else {
            Ok(None)
        };
        let made = next.and_then(|next| Ok((next, parts()?)));
        if made.is_err() {
            slot.live -= 1;
        }
        made
    }

    /// Sees to those that have parted. Whether there are none left: if not, it is to be called again.
    pub(super) fn see_off(&self) -> bool {
        let mut parting = self.parting.lock();
        parting.retain(Parting::stays);
        parting.is_empty()
    }

    /// Read back from the first instance, as every one is made by the same recipe: one that is created to be looked at
    /// would be there for clients to connect to.
    pub(super) fn access(&self) -> io::Result<String> {
        self.check_open()?;
        match &self.access {
            Ok(access) => Ok(access.clone()),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        }
    }
}

/// One of the connections that a listener has handed out. When it leaves there is room for the next.
#[derive(Debug)]
pub(super) struct Instance(Option<Arc<dyn Place>>);

impl Instance {
    pub(super) fn of<B: Bell>(instances: &Arc<Instances<B>>) -> Instance {
        Instance::at(Arc::clone(instances) as Arc<dyn Place>)
    }

    fn at(place: Arc<dyn Place>) -> Instance {
        Instance(Some(place))
    }

    /// Closes the pipe of the connection, and puts up an instance before where there was none because of the limit, so
    /// that the name never goes while the listener is there. A connection of which the last words are `courtesy` bytes
    /// is kept until it is [seen off](Instances::see_off).
    pub(super) fn leave(mut self, pipe: Option<OwnedHandle>, courtesy: Option<usize>) {
        if let Some(place) = self.0.take() {
            place.leave(pipe, courtesy);
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(place) = self.0.take() {
            place.leave(None, None);
        }
    }
}

/// Where an instance takes a place.
trait Place: Debug + Send + Sync {
    fn leave(&self, pipe: Option<OwnedHandle>, courtesy: Option<usize>);
}

impl<B, S> Place for Instances<B, S>
where
    B: Bell,
    S: System<Instance = OwnedHandle> + Debug + Send + Sync,
{
    fn leave(&self, pipe: Option<OwnedHandle>, courtesy: Option<usize>) {
        let mut slot = self.slot.lock();
        if slot.waiting.is_none() && !slot.taken && !self.is_stopped() {
            // If that fails, the next accept tries again.
            slot.waiting = self.create(&slot).ok();
        }
        slot.live -= 1;
        match (pipe, courtesy) {
            (Some(pipe), Some(courtesy)) => {
                self.parting.lock().push(Parting::new(pipe, courtesy));
            }
            // Under the lock: who creates the next one has to know whether this is still there.
            (pipe, _) => drop(pipe),
        }
        drop(slot);
        self.freed.ring();
    }
}

/// Whether trying again later may help.
pub(super) fn is_passing(error: &io::Error) -> bool {
    let passing = [
        ERROR_TOO_MANY_OPEN_FILES,
        ERROR_NOT_ENOUGH_MEMORY,
        ERROR_OUTOFMEMORY,
        ERROR_PIPE_BUSY,
        ERROR_NO_SYSTEM_RESOURCES,
        ERROR_COMMITMENT_LIMIT,
        ERROR_NOT_ENOUGH_QUOTA,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| passing.contains(&(code as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::windows::overlapped::Event;

    /// Creates what is no pipe, and notes of each whether it was to be the first.
    #[derive(Debug, Default)]
    struct Notes {
        created: Mutex<Vec<bool>>,
        exhausted: AtomicBool,
    }

    impl System for Notes {
        type Instance = OwnedHandle;
        type Lock = ();
        type Nature = ();

        fn lock(&self) -> io::Result<()> {
            Ok(())
        }

        fn create(&self, first: bool) -> io::Result<OwnedHandle> {
            if self.exhausted.load(Ordering::SeqCst) {
                return Err(io::Error::from_raw_os_error(
                    ERROR_NO_SYSTEM_RESOURCES as i32,
                ));
            }
            self.created.lock().push(first);
            Ok(Event::new()?.into())
        }

        fn is_served(&self) -> bool {
            true
        }

        fn nature(&self, _: &OwnedHandle) -> io::Result<()> {
            Ok(())
        }

        fn asked_for(&self) -> io::Result<()> {
            Ok(())
        }
    }

    type Noted = Arc<Instances<Event, Notes>>;

    fn listening(limit: usize) -> Noted {
        let options = ListenOptions::new().instances(limit);
        let instances = Instances::on(Notes::default(), &options, Event::new().unwrap());
        Arc::new(instances.unwrap())
    }

    /// Hands out the waiting instance.
    fn hand_out(instances: &Noted) -> (Instance, OwnedHandle) {
        let mut slot = instances.slot();
        if slot.waiting.is_none() {
            slot.waiting = Some(instances.create(&slot).unwrap());
        }
        let (next, ()) = instances.succeed(&mut slot, || Ok(())).unwrap();
        let pipe = std::mem::replace(&mut slot.waiting, next).unwrap();
        (Instance::at(Arc::clone(instances) as Arc<dyn Place>), pipe)
    }

    #[test]
    fn l05_an_instance_that_others_are_there_with_joins_them() {
        let instances = listening(2);
        let (first, pipe) = hand_out(&instances);
        let (second, other) = hand_out(&instances);
        first.leave(Some(pipe), None);
        second.leave(Some(other), None);
        assert_eq!(*instances.system.created.lock(), [true, false, false]);
    }

    /// The name has been anybody's meanwhile: joining whoever has it would be to serve with his access.
    #[test]
    fn l01_where_the_last_instance_has_gone_the_next_is_a_first_one_again() {
        let instances = listening(1);
        let (last, pipe) = hand_out(&instances);
        instances.system.exhausted.store(true, Ordering::SeqCst);
        last.leave(Some(pipe), None);
        assert!(instances.slot().waiting.is_none());
        assert!(instances.create(&instances.slot()).is_err());
        instances.system.exhausted.store(false, Ordering::SeqCst);
        let (_next, _pipe) = hand_out(&instances);
        assert_eq!(*instances.system.created.lock(), [true, true]);
    }
}
