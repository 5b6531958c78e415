// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

import {Token} from "./Token.sol";

/// One function for each way to fail, and some that do not.
contract Zoo {
    enum Kind { A, B }

    error Custom(uint256 code, string why);
    error Nested(Point[] points, bytes32 tag);

    struct Point { int256 x; address who; }

    event Ping(uint256 indexed n, address who);
    event Named(string indexed name, bytes data, Point point);

    uint256 public counter;
    uint256[] internal list;

    receive() external payable {}

    function requireString() external pure { require(false, "no way"); }
    function panicAssert() external pure { assert(false); }
    function panicOverflow() external view returns (uint256) { return counter - counter - 1; }
    function panicDivision(uint256 by) external pure returns (uint256) { return 1 / by; }
    function panicEnum(uint8 kind) external pure returns (Kind) { return Kind(kind); }
    function panicPop() external { list.pop(); }
    function panicIndex() external view returns (uint256) { return list[3]; }
    function custom() external pure { revert Custom(7, "because"); }
    function empty() external pure { revert(); }

    function nested() external view {
        Point[] memory points = new Point[](1);
        points[0] = Point(-5, address(this));
        revert Nested(points, bytes32("tag"));
    }

    function unknown() external pure {
        bytes memory data = hex"deadbeef0000000000000000000000000000000000000000000000000000000000000001";
        assembly { revert(add(data, 32), mload(data)) }
    }

    function broken() external pure {
        bytes memory data = hex"08c379a0ffff";
        assembly { revert(add(data, 32), mload(data)) }
    }

    function outOfGas() external { while (true) counter++; }
    function invalid() external pure { assembly { invalid() } }
    function throughCall(address zoo) external { Zoo(payable(zoo)).custom(); }

    function count() external {
        counter++;
        emit Ping(counter, msg.sender);
    }

    function forget() external { counter = 0; }
    function name(string calldata name_) external { emit Named(name_, bytes(name_), Point(-1, msg.sender)); }
    function noop() external {}
    function blockFacts() external view returns (uint256, uint256, uint256) {
        return (block.number, block.timestamp, block.chainid);
    }
    function burnGas(uint256 rounds) external {
        for (uint256 i; i < rounds; i++) list.push(i);
    }
    function clear() external { delete list; }
}

/// Passes native coin on, whole or in halves; may fail after some went out.
contract Forwarder {
    event Forwarded(address indexed to, uint256 value);

    error ForwardFailed(address to);

    receive() external payable {}

    function forward(address payable to) external payable {
        (bool done,) = to.call{value: msg.value}("");
        if (!done) revert ForwardFailed(to);
        emit Forwarded(to, msg.value);
    }

    function split(address payable first, address payable second) external payable {
        first.transfer(msg.value / 2);
        second.transfer(msg.value - msg.value / 2);
        emit Forwarded(first, msg.value / 2);
    }

    function tryForward(address payable to) external payable returns (bool done) {
        try this.forward{value: msg.value}(to) { done = true; } catch {}
    }
}

/// Takes no native coin.
contract Rejector {
    receive() external payable { revert("no coins, please"); }
}

/// Creates contracts, by CREATE and by CREATE2.
contract Factory {
    event Created(address indexed child);

    function create(string calldata symbol) external payable returns (address child) {
        child = address(new Token(symbol, symbol, 18));
        emit Created(child);
    }

    function create2(bytes32 salt) external returns (address child) {
        child = address(new Zoo{salt: salt}());
        emit Created(child);
    }

    function destroy(address payable heir) external { new Doomed{value: address(this).balance}(heir); }

    receive() external payable {}
}

/// Lives for its constructor only.
contract Doomed {
    constructor(address payable heir) payable { selfdestruct(heir); }
}
