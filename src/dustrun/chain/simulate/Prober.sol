// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// Never deployed: a simulation puts its code at a scratch address and reads many balances by one call.
///
/// The calldata is a row of asks: a word with the target, a word with the length of the data, the data (at most 4,000
/// bytes). Target 0 asks for the native balance of the address in the data. The answer has two words for each ask:
/// whether it was answered by one word, and that word. Compiled by `scripts/devchain/compile.mjs` into `prober.py`.
contract Prober {
    fallback() external {
        assembly {
            let size := calldatasize()
            let out := 0x1000
            for { let at := 0 } lt(at, size) {} {
                let target := calldataload(at)
                let length := calldataload(add(at, 32))
                calldatacopy(0, add(at, 64), length)
                at := add(add(at, 64), length)
                let known := 1
                switch target
                case 0 { mstore(0, balance(mload(0))) }
                default {
                    known := staticcall(300000, target, 0, length, 0, 32)
                    known := and(known, eq(returndatasize(), 32))
                }
                mstore(out, known)
                mstore(add(out, 32), mul(known, mload(0)))
                out := add(out, 64)
            }
            return(0x1000, sub(out, 0x1000))
        }
    }
}
