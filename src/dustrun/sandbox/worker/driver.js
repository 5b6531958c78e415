// Evaluated first in every fresh context, before any user code. Gives back `run(code, input, setup)`.
// It lives in the same world as the script, so it guards nothing: whatever a script does to it, the script only
// changes its own answer. Limits that matter are checked outside as well.
(function () {
  "use strict";
  const MAX_DEPTH = 90;
  const MAX_TEXT = 2000;
  const { apply, construct } = Reflect;
  const { parse, stringify: quote } = JSON;
  const { keys, defineProperty } = Object;
  const { isArray } = Array;
  const { isFinite, isInteger, isSafeInteger } = Number;
  const { join } = Array.prototype;
  const { slice } = String.prototype;
  const { then } = Promise.prototype;
  const text = String;
  const Failed = Error;
  const boxes = [Number, String, Boolean, BigInt];
  const AsyncFunction = (async function () {}).constructor;

  function clip(string, limit) {
    return string.length > limit ? apply(slice, string, [0, limit]) + "…" : string;
  }

  // JSON text of any value, exactly. `fail(kind, message)` never returns.
  function encode(root, limit, fail) {
    const parts = [];
    const trail = [];
    let size = 0;

    function put(piece) {
      size += piece.length;
      if (size > limit) fail("output", "");
      parts[parts.length] = piece;
    }

    function refuse(depth, message) {
      let path = "value";
      for (let i = 1; i <= depth; i++) {
        path += typeof trail[i] === "number" ? "[" + trail[i] + "]" : "." + trail[i];
      }
      fail("value", clip(path, 200) + " " + message);
    }

    function putNumber(number, depth) {
      if (!isFinite(number)) refuse(depth, "is " + text(number) + ", which JSON cannot hold");
      if (isInteger(number) && !isSafeInteger(number)) {
        refuse(depth, "is " + text(number) + ", a number beyond 2^53 that may have lost digits; use a BigInt (10n ** 18n)");
      }
      put(number === 0 ? "0" : text(number));
    }

    function putDigits(big, depth) {
      const digits = text(big);
      if (digits.length > 1000) refuse(depth, "is an integer of more than 1000 digits");
      put(digits);
    }

    function plain(value, key) {
      if (typeof value !== "object" || value === null) return value;
      if (typeof value.toJSON === "function") return value.toJSON(key);
      for (let i = 0; i < 4; i++) if (value instanceof boxes[i]) return value.valueOf();
      return value;
    }

    function isAbsent(value) {
      const type = typeof value;
      return type === "undefined" || type === "function" || type === "symbol";
    }

    function putArray(array, depth) {
      const length = array.length;
      put("[");
      for (let i = 0; i < length; i++) {
        if (i) put(",");
        trail[depth + 1] = i;
        visit(plain(array[i], text(i)), depth + 1);
      }
      put("]");
    }

    function putObject(object, depth) {
      let first = true;
      put("{");
      const names = keys(object);
      for (let i = 0; i < names.length; i++) {
        const key = names[i];
        const value = plain(object[key], key);
        if (isAbsent(value)) continue;
        put((first ? "" : ",") + quote(key) + ":");
        first = false;
        trail[depth + 1] = key;
        visit(value, depth + 1);
      }
      put("}");
    }

    function visit(value, depth) {
      if (typeof value === "string") put(quote(value));
      else if (typeof value === "number") putNumber(value, depth);
      else if (typeof value === "bigint") putDigits(value, depth);
      else if (typeof value === "boolean") put(value ? "true" : "false");
      else if (value === null || isAbsent(value)) put("null");
      else if (depth === MAX_DEPTH) refuse(3, "is nested deeper than " + MAX_DEPTH + " levels, or contains itself");
      else if (isArray(value)) putArray(value, depth);
      else if (value instanceof Map) refuse(depth, "is a Map; use Object.fromEntries(map)");
      else if (value instanceof Set) refuse(depth, "is a Set; use Array.from(set)");
      else if (value instanceof Promise) refuse(depth, "is a Promise; await it");
      else putObject(value, depth);
    }

    visit(plain(root, ""), 0);
    return apply(join, parts, [""]);
  }

  // A value as a line of a log: never throws.
  function show(value, limit) {
    try {
      if (typeof value === "string") return clip(value, limit);
      if (value === undefined || typeof value === "symbol" || typeof value === "function") return clip(text(value), 100);
      if (value instanceof Failed) return clip(text(value.name) + ": " + text(value.message), limit);
      return encode(value, limit, function (kind, message) {
        throw new Failed(kind === "output" ? "too long to show" : message);
      });
    } catch (error) {
      return "[" + typeof value + " that cannot be shown]";
    }
  }

  function installConsole(maxLines, maxChars) {
    const lines = [];
    let chars = 0;
    let full = false;
    function log(...values) {
      if (full) return;
      let line = "";
      for (let i = 0; i < values.length; i++) line += (i ? " " : "") + show(values[i], maxChars - chars);
      chars += line.length + 1;
      full = lines.length === maxLines || chars > maxChars;
      lines[lines.length] = full ? "[further lines are dropped]" : line;
    }
    hide("console", { log, info: log, warn: log, error: log, debug: log });
    return lines;
  }

  function hide(name, value) {
    defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
  }

  // A pure action must give the same answer when it runs again: time stands still, chance comes from the seed.
  function installClock(now) {
    const Real = Date;
    const { toString } = Real.prototype;
    function Fixed(...parts) {
      if (!new.target) return apply(toString, new Real(now), []);
      return construct(Real, parts.length ? parts : [now], new.target);
    }
    Fixed.prototype = Real.prototype;
    Fixed.UTC = Real.UTC;
    Fixed.parse = Real.parse;
    Fixed.now = () => now;
    defineProperty(Fixed, "name", { value: "Date" });
    defineProperty(Real.prototype, "constructor", { value: Fixed, writable: true, configurable: true });
    hide("Date", Fixed);
  }

  // The generator sfc32 (C. Doty-Humphrey, PractRand): small, fast, good enough for samples; not for secrets.
  function installChance(seed) {
    let [a, b, c, d] = seed;
    function next() {
      const sum = (a + b + d) | 0;
      d = (d + 1) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = (((c << 21) | (c >>> 11)) + sum) | 0;
      return sum >>> 0;
    }
    for (let i = 0; i < 12; i++) next();
    defineProperty(Math, "random", {
      value: function random() {
        return ((next() >>> 6) * 134217728 + (next() >>> 5)) / 9007199254740992;
      },
      writable: true,
      configurable: true,
    });
  }

  function removeGlobals() {
    delete globalThis.__date_clock;
    delete globalThis.SharedArrayBuffer;
    delete globalThis.Atomics;
  }

  // Integers beyond 2^53 came as 0 in the JSON text and as digits beside it.
  function restore(root, bigints) {
    let result = root;
    for (const [path, digits] of bigints) {
      const last = path.length - 1;
      if (last < 0) return BigInt(digits);
      let parent = result;
      for (let i = 0; i < last; i++) parent = parent[path[i]];
      parent[path[last]] = BigInt(digits);
    }
    return result;
  }

  function describe(thrown) {
    const found = { name: "", message: "", stack: "" };
    try {
      if (thrown instanceof Failed) {
        found.name = clip(text(thrown.name), 100);
        found.message = clip(text(thrown.message), MAX_TEXT);
        found.stack = clip(text(thrown.stack), 2 * MAX_TEXT);
      } else {
        found.message = show(thrown, MAX_TEXT);
      }
    } catch (error) {
      found.message = "[an error that cannot be shown]";
    }
    return found;
  }

  return function run(code, input, setup) {
    const options = parse(setup);
    installClock(options.now);
    installChance(options.seed);
    removeGlobals();
    const logs = installConsole(options.logLines, options.logChars);
    let phase = "compile";
    let state = "pending";
    let result;
    let encoded = null;

    function failed(error) {
      state = "failed";
      result = error;
    }

    function encodeResult() {
      phase = "result";
      let reason = null;
      try {
        encoded = encode(result, options.outputChars, function (kind, message) {
          reason = { kind, message };
          throw reason;
        });
        return '{"ok":true';
      } catch (error) {
        if (error !== reason) return errorHead(error);
        return '{"refused":{"kind":' + quote(reason.kind) + ',"message":' + quote(reason.message) + "}";
      }
    }

    // Written by hand: a script that gave all objects a `toJSON` shall still read its own error.
    function errorHead(error) {
      const { name, message, stack } = describe(error);
      const place = ',"phase":' + quote(phase) + ',"stack":' + quote(stack);
      return '{"error":{"name":' + quote(name) + ',"message":' + quote(message) + place + "}";
    }

    function quotedLogs() {
      let all = "";
      for (let i = 0; i < logs.length; i++) all += (i ? "," : "") + quote(logs[i]);
      return ',"logs":[' + all + "]}";
    }

    // `outcome("head")` is null while promises are open; `outcome("value")` then is the value's JSON text.
    function outcome(part) {
      if (part === "value") return encoded;
      if (state === "pending") return null;
      return (state === "failed" ? errorHead(result) : encodeResult()) + quotedLogs();
    }

    try {
      const script = construct(AsyncFunction, ["input", code]);
      phase = "run";
      apply(then, script(restore(parse(input), options.bigints)), [
        function (value) {
          state = "done";
          result = value;
        },
        failed,
      ]);
    } catch (error) {
      failed(error);
    }
    return outcome;
  };
})()
