// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// Errors by the names that ERC-6093 gives them.
interface ERC20Errors {
    error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed);
    error ERC20InvalidSender(address sender);
    error ERC20InvalidReceiver(address receiver);
    error ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed);
    error ERC20InvalidApprover(address approver);
    error ERC20InvalidSpender(address spender);
}

/// A plain ERC-20 with EIP-2612 permits that anybody may mint.
contract Token is ERC20Errors {
    string public name;
    string public symbol;
    uint8 public immutable decimals;
    uint256 public totalSupply;
    mapping(address => uint256) internal held;
    mapping(address => mapping(address => uint256)) internal allowed;
    mapping(address => uint256) public nonces;

    event Transfer(address indexed from, address indexed to, uint256 value);
    event Approval(address indexed owner, address indexed spender, uint256 value);

    error ERC2612ExpiredSignature(uint256 deadline);
    error ERC2612InvalidSigner(address signer, address owner);

    constructor(string memory name_, string memory symbol_, uint8 decimals_) {
        name = name_;
        symbol = symbol_;
        decimals = decimals_;
    }

    function balanceOf(address who) public view virtual returns (uint256) {
        return held[who];
    }

    function allowance(address owner, address spender) public view virtual returns (uint256) {
        return allowed[owner][spender];
    }

    function mint(address to, uint256 value) external {
        totalSupply += value;
        held[to] += value;
        emit Transfer(address(0), to, value);
    }

    function burn(uint256 value) external {
        move(msg.sender, address(0), value);
        totalSupply -= value;
    }

    function approve(address spender, uint256 value) external virtual returns (bool) {
        permitSpending(msg.sender, spender, value);
        return true;
    }

    function transfer(address to, uint256 value) external virtual returns (bool) {
        if (to == address(0)) revert ERC20InvalidReceiver(to);
        move(msg.sender, to, value);
        return true;
    }

    function transferFrom(address from, address to, uint256 value) external virtual returns (bool) {
        if (to == address(0)) revert ERC20InvalidReceiver(to);
        spend(from, value);
        move(from, to, value);
        return true;
    }

    function permit(address owner, address spender, uint256 value, uint256 deadline, uint8 v, bytes32 r, bytes32 s)
        external
    {
        if (block.timestamp > deadline) revert ERC2612ExpiredSignature(deadline);
        bytes32 kind = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)");
        bytes32 document = keccak256(abi.encode(kind, owner, spender, value, nonces[owner]++, deadline));
        address signer = ecrecover(keccak256(abi.encodePacked("\x19\x01", DOMAIN_SEPARATOR(), document)), v, r, s);
        if (signer == address(0) || signer != owner) revert ERC2612InvalidSigner(signer, owner);
        permitSpending(owner, spender, value);
    }

    function DOMAIN_SEPARATOR() public view returns (bytes32) {
        bytes32 kind =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        return keccak256(
            abi.encode(kind, keccak256(bytes(name)), keccak256(bytes("1")), block.chainid, address(this))
        );
    }

    function permitSpending(address owner, address spender, uint256 value) internal virtual {
        if (spender == address(0)) revert ERC20InvalidSpender(spender);
        allowed[owner][spender] = value;
        emit Approval(owner, spender, value);
    }

    function spend(address from, uint256 value) internal {
        uint256 left = allowed[from][msg.sender];
        if (left == type(uint256).max) return;
        if (left < value) revert ERC20InsufficientAllowance(msg.sender, left, value);
        allowed[from][msg.sender] = left - value;
    }

    function move(address from, address to, uint256 value) internal virtual {
        if (held[from] < value) revert ERC20InsufficientBalance(from, held[from], value);
        held[from] -= value;
        if (to != address(0)) held[to] += value;
        emit Transfer(from, to, value);
    }
}
