//! Sorts two tables that together have three times their limit, and joins them, with plain slices
//! and rayon: `cargo run --release -p zpool-region --example sort_join`.
//!
//! The rows are arrays of bytes in a region. Neither the sort nor the join knows of it.

#[cfg(target_os = "linux")]
mod tables {
    use std::error::Error;
    use std::time::Instant;

    use rayon::prelude::*;
    use zpool_region::RegionBuilder;

    /// Bytes of a row: a key of 8, a value of 8, and a text.
    const ROW: usize = 64;
    const LIMIT: usize = 32 << 20;
    /// Rows of both tables, of which 1/5 are customers and the rest orders.
    const ROWS: usize = 3 * LIMIT / ROW;
    const CUSTOMERS: usize = ROWS / 5;

    /// A row that sorts by its key, because the key comes first, with its highest byte first.
    type Row = [u8; ROW];

    pub(crate) fn run(builder: RegionBuilder) -> Result<(), Box<dyn Error>> {
        let mut region = match builder.len(ROWS * ROW).limit_bytes(LIMIT).build() {
            Err(error) if error.is_unsupported() => {
                println!("skipped: {error}");
                return Ok(());
            }
            built => built?,
        };
        let control = region.control();
        let start = Instant::now();
        let (rows, _) = region.as_chunks_mut::<ROW>();
        let (customers, orders) = rows.split_at_mut(CUSTOMERS);
        customers.iter_mut().enumerate().for_each(|(at, row)| {
            write_row(row, scrambled(at), at as u64 % 7, "customer, lives in a street of some town")
        });
        orders.iter_mut().enumerate().for_each(|(at, row)| {
            let amount = at as u64 % 100;
            write_row(row, scrambled(at % CUSTOMERS), amount, "order, paid, sent by mail")
        });
        println!("{} MiB written after {:.1?}", (ROWS * ROW) >> 20, start.elapsed());

        customers.par_sort_unstable();
        orders.par_sort_unstable();
        println!("sorted after {:.1?}", start.elapsed());

        let by_group = join(customers, orders);
        println!("joined after {:.1?}: {by_group:?}", start.elapsed());
        assert_eq!(by_group, expected(), "each order has found its customer");
        let stats = control.stats().ok_or("the region is there")?;
        println!(
            "{} MiB resident and {} MiB stored of a limit of {} MiB; {} faults, {} pages put away",
            stats.resident_bytes >> 20,
            stats.store_bytes >> 20,
            stats.limit_bytes >> 20,
            stats.faults,
            stats.units_evicted
        );
        Ok(())
    }

    /// Returns the sum of the orders of each group of customers. Both tables are sorted by key.
    fn join(customers: &[Row], orders: &[Row]) -> [u64; 7] {
        let mut sums = [0; 7];
        let mut rest = orders;
        for customer in customers {
            let (key, group) = read_row(customer);
            while let [order, behind @ ..] = rest
                && read_row(order).0 == key
            {
                sums[group as usize] += read_row(order).1;
                rest = behind;
            }
        }
        sums
    }

    fn expected() -> [u64; 7] {
        let mut sums = [0; 7];
        for at in 0..ROWS - CUSTOMERS {
            sums[at % CUSTOMERS % 7] += at as u64 % 100;
        }
        sums
    }

    /// Returns a different key for each number, in no order.
    fn scrambled(at: usize) -> u64 {
        // An odd factor permutes the residues of a power of two.
        (at as u64).wrapping_mul(0x9E37_79B1) & 0xFFFF_FFFF
    }

    fn write_row(row: &mut Row, key: u64, value: u64, text: &str) {
        row[..8].copy_from_slice(&key.to_be_bytes());
        row[8..16].copy_from_slice(&value.to_be_bytes());
        row[16..16 + text.len()].copy_from_slice(text.as_bytes());
    }

    fn read_row(row: &Row) -> (u64, u64) {
        let word = |at: usize| u64::from_be_bytes(row[at..at + 8].try_into().expect("8 bytes"));
        (word(0), word(8))
    }
}

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    tables::run(zpool_region::Region::builder())
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("skipped: regions need Linux 6.8 or newer");
}
