/** What a field gave in the last run: a plain path is walked here, for everything else the server evaluates. */
import { useDebouncedValue } from '@mantine/hooks'
import { useQuery } from '@tanstack/react-query'
import { post } from '../api/client'
import { words } from '../words'
import { trial } from '../words.palette'
import { brief, type Context, preview } from './paths'

const AFTER_MS = 300
const said = words.inspector
type Props = { text: string; context: Context; isBare: boolean }

export function Seen({ text, context, isBare }: Props) {
  const plain = isBare ? null : preview(context, text)
  const { runId, path = '', isTrial = false } = context
  const [settled] = useDebouncedValue(text, AFTER_MS)
  const isAsked = plain === null && settled === text && text.trim() !== '' && (isBare || text.includes('{{'))
  const found = useQuery({
    queryKey: ['evaluated', runId, path, settled, isBare],
    queryFn: () =>
      post('/v1/expressions/evaluate', {}, { template: settled, runId: runId ?? '', path, isExpression: isBare }),
    enabled: isAsked && runId !== undefined && !isTrial,
    staleTime: Number.POSITIVE_INFINITY,
    retry: false,
  })
  const value = found.data?.value
  const shown = plain ?? (isAsked && found.data ? (typeof value === 'string' ? value : brief(value)) : null)
  const error = isAsked ? found.data?.error?.message.split('\n')[0] : undefined
  if (shown === null && !error) return null
  return (
    <div className="seen">
      <span>{isTrial ? trial.tried : said.lastRun}</span>
      {error ? <span>{error}</span> : <code title={shown ?? ''}>{shown}</code>}
    </div>
  )
}
