// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// A price feed, or a sequencer's uptime feed, in the manner of Chainlink's AggregatorV3Interface.
contract Feed {
    uint8 public decimals;
    string public description = "TEST / USD";
    uint256 public constant version = 4;
    int256 public answer;
    uint256 public startedAt;
    uint256 public updatedAt;
    uint80 public round;
    uint80 public answeredInRound;

    constructor(uint8 decimals_, int256 answer_) {
        decimals = decimals_;
        setAt(answer_, block.timestamp);
    }

    function set(int256 answer_) external { setAt(answer_, block.timestamp); }

    function setAt(int256 answer_, uint256 time) public {
        answer = answer_;
        startedAt = time;
        updatedAt = time;
        round += 1;
        answeredInRound = round;
    }

    function setDecimals(uint8 decimals_) external { decimals = decimals_; }
    function setStale(uint80 behind) external { answeredInRound = round - behind; }

    function latestRoundData() external view returns (uint80, int256, uint256, uint256, uint80) {
        return (round, answer, startedAt, updatedAt, answeredInRound);
    }
}
