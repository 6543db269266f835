//! A product whose weights are several experts', each of which meets the columns that were sent to it.
//!
//! In: for each token the numbers of the experts that it goes to. Out, in the work buffer: the columns of each expert
//! side by side, so that its rows are unpacked once for all of them.

use crate::panel::Pick;

/// Where experts, and the columns that go to them, lie. All zero for a product without experts. Strides are in bytes.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Experts {
    pub count: u64,
    /// From the weights of an expert to those of the next.
    pub stride: u64,
    ids: Option<std::ptr::NonNull<u8>>,
    ids_stride: u64,
    /// Experts of a token.
    used: u64,
    tokens: u64,
    /// Columns of a token: one for all its experts, or one for each.
    inputs: u64,
    input_token_stride: u64,
    output_token_stride: u64,
}

/// Which columns go to which expert.
pub(crate) struct Groups<'a> {
    /// Where the picks of each expert begin, and the end.
    starts: &'a [usize],
    picks: &'a [Pick],
}

impl Groups<'_> {
    pub fn picks(&self, expert: usize) -> &[Pick] {
        &self.picks[self.starts[expert]..self.starts[expert + 1]]
    }

    /// What [`Experts::group`] wrote to `tables`.
    ///
    /// # Safety
    /// It did, for the same experts, and nobody writes there any more.
    pub unsafe fn read<'a>(experts: &Experts, tables: *const u8) -> Groups<'a> {
        let (starts, picks) = experts.tables(tables.cast_mut());
        // SAFETY: by the caller's word; `group` writes all starts, and as many picks as the last one says.
        unsafe {
            let starts = std::slice::from_raw_parts(starts, experts.count as usize + 1);
            let picks = std::slice::from_raw_parts(picks, starts[experts.count as usize]);
            Groups { starts, picks }
        }
    }
}

impl Experts {
    /// Where column `column` begins, in bytes from the input's beginning.
    pub fn input(&self, column: usize, stride: usize) -> usize {
        if self.count == 0 {
            return column * stride;
        }
        let inputs = self.inputs as usize;
        column / inputs * self.input_token_stride as usize + column % inputs * stride
    }

    /// How many columns go to an expert on average, or without experts, all of `columns`.
    pub fn columns_of_each(&self, columns: usize) -> usize {
        match self.count {
            0 => columns,
            count => (self.used * self.tokens).div_ceil(count) as usize,
        }
    }

    /// Whether there are experts, and no more tokens for them than a step has that checks drafts or answers several clients.
    /// To some experts go fewer than to others, and ggml's own way has another order of additions for few columns.
    pub fn few_tokens(&self) -> bool {
        self.count > 0 && self.tokens <= 32
    }

    /// Bytes that [`Experts::group`] writes at most.
    pub fn groups_bytes(&self) -> usize {
        if self.count == 0 {
            return 0;
        }
        (self.count as usize + 1) * size_of::<usize>()
            + (self.used * self.tokens) as usize * size_of::<Pick>()
    }

    fn tables(&self, at: *mut u8) -> (*mut usize, *mut Pick) {
        let picks = at.wrapping_add((self.count as usize + 1) * size_of::<usize>());
        (at.cast(), picks.cast())
    }

    /// The expert that choice `choice` of `token` names; none for a number that there is no expert of.
    ///
    /// # Safety
    /// The ids are valid for reading.
    unsafe fn chosen(&self, token: usize, choice: usize) -> Option<usize> {
        let ids = self.ids?.as_ptr();
        let place = token * self.ids_stride as usize + choice * size_of::<i32>();
        // SAFETY: by the caller's word.
        let id = unsafe { ids.add(place).cast::<i32>().read_unaligned() };
        usize::try_from(id)
            .ok()
            .filter(|id| *id < self.count as usize)
    }

    /// Brings the columns of each expert together, in the order of the tokens.
    ///
    /// # Safety
    /// The ids are valid for reading, and [`Experts::groups_bytes`] from `tables` on, aligned to 8, for writing.
    pub unsafe fn group(&self, tables: *mut u8, output_stride: usize) {
        let (count, used, inputs) = (
            self.count as usize,
            self.used as usize,
            self.inputs as usize,
        );
        if count == 0 {
            return;
        }
        let (starts, picks) = self.tables(tables);
        // SAFETY: there is room for a start of each expert and for the end. `starts` are zeroed before they are
        // looked at as numbers.
        let starts = unsafe {
            starts.write_bytes(0, count + 1);
            std::slice::from_raw_parts_mut(starts, count + 1)
        };
        let choices = (0..self.tokens as usize * used).map(|i| (i / used, i % used));
        for (token, choice) in choices.clone() {
            // SAFETY: by the caller's word.
            if let Some(expert) = unsafe { self.chosen(token, choice) } {
                starts[expert] += 1;
            }
        }
        // From how many there are to where the last one ends; each that is placed moves it down to where they begin.
        let mut end = 0;
        for start in starts.iter_mut() {
            end += *start;
            *start = end;
        }
        for (token, choice) in choices.rev() {
            // SAFETY: by the caller's word; there are as many picks as choices.
            unsafe {
                if let Some(expert) = self.chosen(token, choice) {
                    starts[expert] -= 1;
                    picks.add(starts[expert]).write(Pick {
                        column: token * inputs + choice % inputs,
                        output: token * self.output_token_stride as usize + choice * output_stride,
                    });
                }
            }
        }
    }
}
