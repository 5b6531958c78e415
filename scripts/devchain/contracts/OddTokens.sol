// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

import {Token} from "./Token.sol";

/// Keeps one per cent of each transfer for itself.
contract FeeToken is Token {
    constructor() Token("Fee Token", "FEE", 18) {}

    function move(address from, address to, uint256 value) internal override {
        uint256 fee = value / 100;
        super.move(from, to, value - fee);
        if (fee > 0) super.move(from, address(this), fee);
    }
}

/// Balances are shares of a supply that grows: they change without a Transfer.
contract RebasingToken is Token {
    uint256 public percent = 100;

    constructor() Token("Rebasing Token", "REB", 18) {}

    function rebase(uint256 percent_) external {
        percent = percent_;
    }

    function balanceOf(address who) public view override returns (uint256) {
        return held[who] * percent / 100;
    }

    function move(address from, address to, uint256 value) internal override {
        uint256 balance = balanceOf(from);
        if (balance < value) revert ERC20InsufficientBalance(from, balance, value);
        uint256 shares = value * 100 / percent;
        held[from] -= shares;
        held[to] += shares;
        emit Transfer(from, to, value);
    }
}

/// Says false where others revert.
contract FalseToken is Token {
    constructor() Token("False Token", "FALSE", 18) {}

    function transfer(address to, uint256 value) external override returns (bool) {
        if (held[msg.sender] < value) return false;
        move(msg.sender, to, value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external override returns (bool) {
        if (held[from] < value || allowed[from][msg.sender] < value) return false;
        spend(from, value);
        move(from, to, value);
        return true;
    }
}

/// Refuses to move for addresses on its list.
contract BlocklistToken is Token {
    mapping(address => bool) public isBlocked;

    constructor() Token("Blocklist Token", "BLOCK", 6) {}

    function setBlocked(address who, bool blocked) external {
        isBlocked[who] = blocked;
    }

    function move(address from, address to, uint256 value) internal override {
        require(!isBlocked[from] && !isBlocked[to], "Blacklistable: account is blacklisted");
        super.move(from, to, value);
    }
}

/// Stands still while paused.
contract PausableToken is Token {
    bool public paused;

    error EnforcedPause();

    constructor() Token("Pausable Token", "PAUSE", 18) {}

    function setPaused(bool paused_) external {
        paused = paused_;
    }

    function move(address from, address to, uint256 value) internal override {
        if (paused) revert EnforcedPause();
        super.move(from, to, value);
    }
}

interface Receiver {
    function tokensReceived(address from, uint256 value) external;
}

/// Calls the recipient before the balances change, as ERC-777 hooks do.
contract ReentrantToken is Token {
    constructor() Token("Reentrant Token", "REENT", 18) {}

    function move(address from, address to, uint256 value) internal override {
        if (to.code.length > 0) {
            try Receiver(to).tokensReceived(from, value) {} catch {}
        }
        super.move(from, to, value);
    }
}

/// Takes what it is given, and pulls once more while it is being paid.
contract Greedy is Receiver {
    function tokensReceived(address from, uint256 value) external {
        if (Token(msg.sender).allowance(from, address(this)) >= value) {
            Token(msg.sender).transferFrom(from, address(this), value);
        }
    }
}

/// Returns nothing and lets an allowance only change from or to zero, as the first USDT does; name by bytes32.
contract RaceToken {
    bytes32 public constant name = "Race Token";
    bytes32 public constant symbol = "RACE";
    uint8 public constant decimals = 6;
    uint256 public totalSupply;
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    function mint(address to, uint256 value) external {
        totalSupply += value;
        balanceOf[to] += value;
        emit Transfer(address(0), to, value);
    }

    function approve(address spender, uint256 value) external {
        require(value == 0 || allowance[msg.sender][spender] == 0);
        allowance[msg.sender][spender] = value;
        emit Approval(msg.sender, spender, value);
    }

    function transfer(address to, uint256 value) external {
        move(msg.sender, to, value);
    }

    function transferFrom(address from, address to, uint256 value) external {
        allowance[from][msg.sender] -= value;
        move(from, to, value);
    }

    function move(address from, address to, uint256 value) internal {
        balanceOf[from] -= value;
        balanceOf[to] += value;
        emit Transfer(from, to, value);
    }
}

/// Moves without an event and returns nothing.
contract SilentToken {
    string public constant name = "Silent Token";
    string public constant symbol = "SILENT";
    uint8 public constant decimals = 6;
    mapping(address => uint256) public balanceOf;
    mapping(address => mapping(address => uint256)) public allowance;

    function mint(address to, uint256 value) external {
        balanceOf[to] += value;
    }

    function approve(address spender, uint256 value) external {
        allowance[msg.sender][spender] = value;
    }

    function transfer(address to, uint256 value) external {
        balanceOf[msg.sender] -= value;
        balanceOf[to] += value;
    }

    function transferFrom(address from, address to, uint256 value) external {
        allowance[from][msg.sender] -= value;
        balanceOf[from] -= value;
        balanceOf[to] += value;
    }
}

/// Keeps a share of each transfer that depends on the number of the block.
contract ClockToken is Token {
    constructor() Token("Clock Token", "CLOCK", 18) {}

    function move(address from, address to, uint256 value) internal override {
        uint256 fee = value * (block.number % 5) / 100;
        super.move(from, to, value - fee);
        if (fee > 0) super.move(from, address(this), fee);
    }
}

/// Every transfer raises the balance of everybody by one per cent.
contract GrowingToken is Token {
    uint256 public percent = 100;

    constructor() Token("Growing Token", "GROW", 18) {}

    function balanceOf(address who) public view override returns (uint256) {
        return held[who] * percent / 100;
    }

    function move(address from, address to, uint256 value) internal override {
        uint256 balance = balanceOf(from);
        if (balance < value) revert ERC20InsufficientBalance(from, balance, value);
        uint256 shares = value * 100 / percent;
        held[from] -= shares;
        held[to] += shares;
        percent += 1;
        emit Transfer(from, to, value);
    }
}

interface Hook {
    function tokensToSend(address from, address to, uint256 value) external;
    function tokensReceived(address from, address to, uint256 value) external;
}

/// Asks the hook of the sender before a transfer and tells that of the recipient after it, as ERC-777 does.
contract HookedToken is Token {
    mapping(address => Hook) public hookOf;

    constructor() Token("Hooked Token", "HOOK", 18) {}

    function setHook(Hook hook) external {
        hookOf[msg.sender] = hook;
    }

    function move(address from, address to, uint256 value) internal override {
        if (address(hookOf[from]) != address(0)) hookOf[from].tokensToSend(from, to, value);
        super.move(from, to, value);
        if (address(hookOf[to]) != address(0)) hookOf[to].tokensReceived(from, to, value);
    }
}

/// A hook that refuses large transfers, and passes half of what it receives on to its heir.
contract Splitter is Hook {
    HookedToken public immutable token;
    address public immutable heir;

    event Asked(address indexed from, address indexed to, uint256 value);

    error TooMuchAtOnce(uint256 value);

    constructor(HookedToken token_, address heir_) {
        token = token_;
        heir = heir_;
        token_.setHook(this);
    }

    function tokensToSend(address from, address to, uint256 value) external {
        if (value > 50 ether) revert TooMuchAtOnce(value);
        emit Asked(from, to, value);
    }

    function tokensReceived(address, address to, uint256 value) external {
        if (to == address(this)) token.transfer(heir, value / 2);
        else token.transferFrom(to, heir, value / 4);
    }
}
