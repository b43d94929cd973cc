//! The Rust program: it sorts and joins vectors of records, and knows nothing of zrun.

use std::collections::HashMap;

/// Records of the larger side. With their copies for the join, they are some 190 MiB.
const ORDERS: u64 = 1_200_000;
const CUSTOMERS: u64 = 50_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    customer: u64,
    day: u32,
    amount: u32,
    item: [u8; 24],
    warehouse: [u8; 24],
}

/// Prints a sum over all joined records, in order.
pub(crate) fn run() {
    let mut orders: Vec<Order> = (0..ORDERS).map(order).collect();
    orders.sort_unstable();
    let mut by_day: Vec<Order> =
        orders.iter().filter(|order| order.day % 2 == 0).copied().collect();
    by_day.extend(orders.iter().filter(|order| order.day % 2 == 1));
    by_day.sort_by_key(|order| order.day);
    let customers: HashMap<u64, String> =
        (0..CUSTOMERS).map(|number| (number, format!("customer {number}"))).collect();
    let mut sum = 0_u64;
    for order in orders.iter().chain(&by_day) {
        let name = customers[&order.customer].as_bytes();
        let last = u64::from(*name.last().expect("names are not empty"));
        sum = sum.rotate_left(5) ^ (u64::from(order.amount) * last + u64::from(order.item[7]));
    }
    println!("{} orders, {} by day, sum {sum:016x}", orders.len(), by_day.len());
}

fn order(number: u64) -> Order {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    Order {
        customer: mixed % CUSTOMERS,
        day: (number / 5000) as u32,
        amount: (mixed >> 40) as u32 % 10_000,
        item: text(*b"item 000 of the list    ", mixed >> 20),
        warehouse: text(*b"ware 000 in the harbour ", (mixed >> 30) % 50),
    }
}

/// Writes three digits of a number into a text.
fn text(mut text: [u8; 24], number: u64) -> [u8; 24] {
    let digits = [number / 100 % 10, number / 10 % 10, number % 10];
    for (place, digit) in text[5..8].iter_mut().zip(digits) {
        *place = b'0' + digit as u8;
    }
    text
}
