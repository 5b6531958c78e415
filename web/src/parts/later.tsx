/** Components whose code is loaded when they are first shown, or ahead.
 *
 * Not `React.lazy`: React holds whatever follows a fallback back for 300 ms, once for each one inside another. */
import { type ComponentType, type ReactNode, useEffect, useState } from 'react'

type Later<P> = ComponentType<P> & { ahead: () => void }

export function later<P extends object>(load: () => Promise<ComponentType<P>>, meanwhile: ReactNode = null): Later<P> {
  let Found: ComponentType<P> | null = null
  let loading: Promise<void> | null = null
  const begin = () => {
    loading ??= load().then(
      (component) => {
        Found = component
      },
      (error) => {
        loading = null // the next one that shows it tries again
        throw error
      },
    )
    return loading
  }
  // biome-ignore lint/correctness/noComponentHookFactories: one component for each module, made when that is read
  function Shown(props: P) {
    const [error, setError] = useState<unknown>(null)
    const [, setIsThere] = useState(Found !== null)
    useEffect(() => {
      if (!Found) begin().then(() => setIsThere(true), setError)
    }, [])
    if (error) throw error
    return Found ? <Found {...props} /> : meanwhile
  }
  return Object.assign(Shown, { ahead: () => void begin().catch(() => {}) })
}
