//! `<iothreads>`, `<iothreadids>`, `<defaultiothread>`: threads of QEMU that serve disks.

use crate::model::element;

element! {
    /// `<iothreadids>`: threads with numbers of the user's.
    #[derive(Default)]
    pub struct IoThreadIds {
        /// The threads.
        threads: Vec<IoThread> => Child("iothread"),
    }
}

element! {
    /// One thread.
    pub struct IoThread {
        /// Number, from 1.
        id: u32 => Attr("id"),
        /// Fewest worker threads below it.
        pool_min: Option<u32> => Attr("thread_pool_min"),
        /// Most worker threads below it.
        pool_max: Option<u32> => Attr("thread_pool_max"),
        /// How long it polls before it sleeps.
        poll: Option<IoThreadPoll> => Child("poll"),
    }
}

element! {
    /// `<poll>`
    pub struct IoThreadPoll {
        /// Nanoseconds at most.
        max_ns: Option<u64> => Attr("max"),
        /// What the time is multiplied with to grow.
        grow: Option<u64> => Attr("grow"),
        /// What the time is divided by to shrink.
        shrink: Option<u64> => Attr("shrink"),
    }
}

element! {
    /// `<defaultiothread>`: QEMU's main loop.
    #[derive(Default)]
    pub struct DefaultIoThread {
        /// Fewest worker threads below it.
        pool_min: Option<u32> => Attr("thread_pool_min"),
        /// Most worker threads below it.
        pool_max: Option<u32> => Attr("thread_pool_max"),
    }
}
