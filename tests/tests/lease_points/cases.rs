//! What members do, where they die in it, and what they leave.

/// What the next one finds in a unit whose contents are lost with a writer that dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// What was there before.
    Old,
    /// What the dead one published, or was handed.
    New,
    /// That it is lost.
    Lost,
}

/// One death.
#[derive(Debug)]
pub(crate) struct Case {
    /// What the member does.
    pub(crate) role: &'static str,
    /// The point at which it dies, when it first comes there.
    pub(crate) point: &'static str,
    pub(crate) leaves: Leaves,
}

impl Case {
    /// The member needs the unit to be held by somebody else when it acts.
    pub(crate) fn finds_it_held(&self) -> bool {
        self.role.starts_with("waits-")
            || self.role == "gives-up"
            || (self.role, self.point) == ("takes", "lease.wait_announced")
    }

    /// Others may wait for the unit before the member acts: they keep it from nothing.
    pub(crate) fn lets_others_wait(&self) -> bool {
        self.role != "upgrades" && (!self.finds_it_held() || self.role == "gives-up")
    }

    /// Somebody gives the contents up, so that a domain which keeps what a dead writer left keeps
    /// something that is whole by chance only.
    pub(crate) fn gives_contents_up(&self) -> bool {
        matches!(self.role, "abandons" | "restores")
    }

    /// What the next one finds in a domain that keeps what a writer left which died.
    pub(crate) fn leaves_where_kept(&self) -> Leaves {
        match (self.leaves, self.point) {
            (Leaves::Lost, "lease.exclusive_granted") => Leaves::Old,
            (Leaves::Lost, _) => Leaves::New,
            (leaves, _) => leaves,
        }
    }
}

impl Case {
    /// What the next one finds in a domain that has checksums, which tell what is whole.
    pub(crate) fn leaves_where_summed(&self) -> Leaves {
        match (self.role, self.leaves, self.point) {
            ("restores", Leaves::Lost, _) => Leaves::Lost,
            (_, Leaves::Lost, "lease.exclusive_granted") => Leaves::Old,
            ("abandons", Leaves::Lost, _) => Leaves::Lost,
            (_, Leaves::Lost, _) => Leaves::New,
            (_, leaves, _) => leaves,
        }
    }
}

/// `role` dies at `point` and leaves what it `leaves`.
macro_rules! cases {
    ($($role:literal $(dies at $point:literal, $leaves:ident;)*)*) => {
        &[$($(Case { role: $role, point: $point, leaves: Leaves::$leaves },)*)*]
    };
}

pub(crate) const CASES: &[Case] = cases! {
    "releases"
        dies at "lease.exclusive_granted", Lost;
        dies at "lease.version_to_raise", Lost;
        dies at "lease.exclusive_noted", Lost;
        dies at "lease.version_raised", Lost;
        dies at "lease.released_not_woken", New;
    "looks"
        dies at "lease.exclusive_granted", Lost;
        dies at "lease.released_not_woken", Old;
    "downgrades"
        dies at "lease.version_to_raise", Lost;
        dies at "lease.exclusive_noted", Lost;
        dies at "lease.version_raised", Lost;
        dies at "lease.released_not_woken", New;
    "abandons"
        dies at "lease.version_to_raise", Lost;
        dies at "lease.exclusive_noted", Lost;
        dies at "lease.version_raised", Lost;
        dies at "lease.released_not_woken", Lost;
    "lets-go"
        dies at "lease.released_not_woken", Old;
    "crowds"
        dies at "lease.released_not_woken", Old;
    "upgrades"
        dies at "lease.exclusive_granted", Lost;
        dies at "lease.version_to_raise", Lost;
        dies at "lease.exclusive_noted", Lost;
        dies at "lease.version_raised", Lost;
    "restores"
        dies at "lease.exclusive_granted", Lost;
        dies at "lease.version_to_raise", Lost;
        dies at "lease.exclusive_noted", Lost;
        dies at "lease.version_raised", Lost;
        dies at "lease.released_not_woken", New;
    "waits-to-read"
        dies at "lease.wait_announced", Old;
    "waits-to-write"
        dies at "lease.wait_announced", Old;
    "gives-up"
        dies at "lease.wait_announced", Old;
        dies at "lease.released_not_woken", Old;
    "gives"
        dies at "lease.version_to_raise", Lost;
        dies at "lease.exclusive_noted", Lost;
        dies at "lease.version_raised", Lost;
        dies at "hand.noted", Lost;
        dies at "lease.released_not_woken", New;
        dies at "hand.given", New;
    "takes"
        dies at "lease.wait_announced", New;
        dies at "hand.taken", Lost;
};

/// Those that are met in a domain that has checksums only.
pub(crate) const OF_SUMS: &[Case] = cases! {
    "releases"
        dies at "lease.sum_stored", Lost;
    "downgrades"
        dies at "lease.sum_stored", Lost;
    "upgrades"
        dies at "lease.sum_stored", Lost;
    "restores"
        dies at "lease.sum_stored", Lost;
    "gives"
        dies at "lease.sum_stored", Lost;
};
