//! What attention asks of an instruction set: registers of floats. The way through the cache is written once, in
//! [`range`](super::range), and compiled for each.

/// A register of floats.
///
/// All functions ask that the CPU has what the implementation is for, and of pointers that they are valid for
/// [`LANES`](Vector::LANES) elements, of any alignment.
pub(crate) trait Vector: Copy {
    /// Floats of a register; they divide 16.
    const LANES: usize;
    /// Queries that meet keys and values together: as many as the registers have room for, up to four.
    const QUERIES: usize;

    /// Asks memory for what is at `at`: a hint, which reads nothing.
    fn ask(at: *const u8);
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(at: *const f32) -> Self;
    /// Of half precision.
    unsafe fn load_halves(at: *const u16) -> Self;
    unsafe fn load_bytes(at: *const i8) -> Self;
    /// One number of half precision in each lane.
    unsafe fn splat_half(at: *const u16) -> Self;
    unsafe fn store(self, at: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    /// `self + mask`; minus infinity where the mask is, whatever `self` is there.
    unsafe fn masked(self, mask: Self) -> Self;
    unsafe fn multiply(self, other: Self) -> Self;
    /// `self + a * b`, rounded once.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// Where `other` is no number, neither is what comes out; where `self` is none, it may be either.
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn round(self) -> Self;
    /// `self` times two to the power of whole numbers from -127 to 0; zero for -127.
    unsafe fn times_power(self, exponent: Self) -> Self;
    unsafe fn sum(self) -> f32;
    unsafe fn greatest(self) -> f32;
    /// Writes the sum of each of the four registers.
    unsafe fn store_sums(of: [Self; 4], at: *mut f32);
}

/// e to the power of numbers that are at most zero, to about 2e-7 of it; zero where it would be below 1e-38. Of what is no
/// number, none.
///
/// # Safety
/// The CPU has what `V` is for.
#[inline(always)]
pub(crate) unsafe fn exp<V: Vector>(x: V) -> V {
    // ln 2, in a part with few bits, so that its multiples are exact, and what is left.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // SAFETY: by the caller's word.
    unsafe {
        let x = V::splat(-88.0).max(x);
        let power = x.multiply(V::splat(std::f32::consts::LOG2_E)).round();
        let rest = x.add_product(power, V::splat(-LN_2_HIGH));
        let rest = rest.add_product(power, V::splat(-LN_2_LOW));
        // The series: `rest` is within half of ln 2.
        let mut sum = V::splat(1.0 / 720.0);
        sum = V::splat(1.0 / 120.0).add_product(sum, rest);
        sum = V::splat(1.0 / 24.0).add_product(sum, rest);
        sum = V::splat(1.0 / 6.0).add_product(sum, rest);
        sum = V::splat(0.5).add_product(sum, rest);
        sum = V::splat(1.0).add_product(sum, rest);
        sum = V::splat(1.0).add_product(sum, rest);
        sum.times_power(power)
    }
}

/// Writes functions of [`Vector`] out: each is a few instructions, to be compiled into its caller.
macro_rules! instructions {
    ($(fn $name:ident($($argument:ident: $type:ty),*) $(-> $out:ty)? { $($body:tt)* })*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($argument: $type),*) $(-> $out)? {
                // SAFETY: by the caller's word, the CPU has them, and pointers are valid.
                unsafe { $($body)* }
            }
        )*
    };
}
pub(crate) use instructions;
