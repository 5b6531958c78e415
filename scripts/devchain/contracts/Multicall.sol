// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// Answers the calls that Multicall3 answers, in the same form.
contract Multicall {
    struct Call { address target; bytes callData; }
    struct Call3 { address target; bool allowFailure; bytes callData; }
    struct Call3Value { address target; bool allowFailure; uint256 value; bytes callData; }
    struct Result { bool success; bytes returnData; }

    function aggregate(Call[] calldata calls) external payable returns (uint256 number, bytes[] memory datas) {
        number = block.number;
        datas = new bytes[](calls.length);
        for (uint256 i; i < calls.length; i++) {
            datas[i] = one(calls[i].target, false, 0, calls[i].callData).returnData;
        }
    }

    function tryAggregate(bool mustSucceed, Call[] calldata calls) external payable returns (Result[] memory results) {
        results = new Result[](calls.length);
        for (uint256 i; i < calls.length; i++) {
            results[i] = one(calls[i].target, !mustSucceed, 0, calls[i].callData);
        }
    }

    function aggregate3(Call3[] calldata calls) external payable returns (Result[] memory results) {
        results = new Result[](calls.length);
        for (uint256 i; i < calls.length; i++) {
            results[i] = one(calls[i].target, calls[i].allowFailure, 0, calls[i].callData);
        }
    }

    function aggregate3Value(Call3Value[] calldata calls) external payable returns (Result[] memory results) {
        results = new Result[](calls.length);
        uint256 total;
        for (uint256 i; i < calls.length; i++) {
            total += calls[i].value;
            results[i] = one(calls[i].target, calls[i].allowFailure, calls[i].value, calls[i].callData);
        }
        require(msg.value == total, "Multicall3: value mismatch");
    }

    /// One word of each call, 0 where it reverts: many balances in a form that is read at once.
    function words(Call[] calldata calls) external returns (uint256[] memory found) {
        found = new uint256[](calls.length);
        for (uint256 i; i < calls.length; i++) {
            Result memory result = one(calls[i].target, true, 0, calls[i].callData);
            if (result.success && result.returnData.length == 32) found[i] = abi.decode(result.returnData, (uint256));
        }
    }

    function one(address target, bool mayFail, uint256 value, bytes calldata data)
        internal
        returns (Result memory result)
    {
        (result.success, result.returnData) = target.call{value: value}(data);
        require(mayFail || result.success, "Multicall3: call failed");
    }

    function getBlockHash(uint256 number) external view returns (bytes32) { return blockhash(number); }
    function getBlockNumber() external view returns (uint256) { return block.number; }
    function getCurrentBlockTimestamp() external view returns (uint256) { return block.timestamp; }
    function getBasefee() external view returns (uint256) { return block.basefee; }
    function getChainId() external view returns (uint256) { return block.chainid; }
    function getEthBalance(address who) external view returns (uint256) { return who.balance; }
}
