/** One attempt at a time: what it answered, or what hindered it. */
import { useState } from 'react'

export function useAttempt<T>(act: () => Promise<T>) {
  const [answer, setAnswer] = useState<T | null>(null)
  const [error, setError] = useState<unknown>(null)
  const [isBusy, setBusy] = useState(false)
  const go = async () => {
    setBusy(true)
    setError(null)
    try {
      setAnswer(await act())
    } catch (problem) {
      setAnswer(null)
      setError(problem)
    } finally {
      setBusy(false)
    }
  }
  return { answer, error, isBusy, go }
}
