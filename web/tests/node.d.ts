/** What the tests use of Node, which runs them: types of the whole of it would be one more dependency. */
declare module 'node:test' {
  export default function test(name: string, body: () => unknown): void
}

declare module 'node:fs' {
  export function readFileSync(path: string | URL, encoding: 'utf8'): string
  export function readdirSync(path: string): string[]
}

declare module 'node:assert/strict' {
  interface Assert {
    (value: unknown, message?: string): asserts value
    ok(value: unknown, message?: string): asserts value
    equal<T>(actual: unknown, expected: T, message?: string): asserts actual is T
    deepEqual(actual: unknown, expected: unknown, message?: string): void
    match(text: string, pattern: RegExp, message?: string): void
    doesNotMatch(text: string, pattern: RegExp, message?: string): void
  }
  const assert: Assert
  export default assert
}
