/** The messages of a conversation: what a person said, and what the assistant said and did, as text. */

import { useLayoutEffect, useMemo, useRef } from 'react'
import { Link } from 'wouter'
import { later } from '../parts/later'
import { Loading } from '../parts/Section'
import { Empty } from '../parts/Table'
import { Trouble } from '../parts/Trouble'
import { assistant as said } from '../words.assistant'
import { Asking } from './Asking'
import { Outcome } from './Outcome'
import { type Live, type Part, savesOf, type Told } from './parts'
import { Step } from './Step'
import type { Message } from './stream'

const Change = later(() => import('./Change').then((module) => module.default), <Loading />)
const NEAR_PX = 120

type Props = { messages: Message[]; live: Live; isLost: boolean }

export function Thread({ messages, live, isLost }: Props) {
  const box = useRef<HTMLDivElement>(null)
  const isNear = useRef(true)
  // biome-ignore lint/correctness/useExhaustiveDependencies: whatever comes, the end stays in sight
  useLayoutEffect(() => {
    if (box.current && isNear.current) box.current.scrollTop = box.current.scrollHeight
  }, [messages, live])
  const watch = () => {
    const { scrollTop = 0, scrollHeight = 0, clientHeight = 0 } = box.current ?? {}
    isNear.current = scrollHeight - scrollTop - clientHeight < NEAR_PX
  }
  return (
    <div className="thread" ref={box} onScroll={watch} tabIndex={0} role="log" aria-label={said.thread}>
      {!messages.length && <Empty title={said.start} about={said.startAbout} />}
      {messages.map((message) => (
        <article key={message.id} className={message.role}>
          <h2>{heading(message)}</h2>
          {message.role === 'assistant' && !message.isPosted ? (
            <Answer message={message} told={live.byMessage[message.id]} />
          ) : (
            <p className="spoken" dir="auto">
              {message.content}
            </p>
          )}
        </article>
      ))}
      {isLost && (
        <p className="quiet" role="status">
          {said.lost}
        </p>
      )}
    </div>
  )
}

/** Who wrote it: what a key posted in the assistant's name is not the assistant's. */
const heading = ({ role, isPosted }: Message) => {
  if (role === 'user') return said.you
  return (said.others[role] ?? said.it) + (isPosted ? said.posted : '')
}

const isEnded = (message: Message) => message.status === 'complete' || message.status === 'failed'

/** While it is written its events tell more than what was asked for last; results come with the stored parts. */
function Answer({ message, told }: { message: Message; told?: Told }) {
  const stored = message.parts as unknown as Part[]
  const parts = useMemo(() => {
    if (isEnded(message) || !told) return stored.length ? stored : plain(message)
    const results = Object.fromEntries(
      stored.flatMap((part) => (part.type === 'tool_result' ? [[part.callId, part]] : [])),
    )
    return told.parts.map((part) => (part.type === 'tool_result' ? (results[part.callId] ?? part) : part))
  }, [message, stored, told])
  const saves = useMemo(() => (isEnded(message) ? savesOf(stored) : []), [message, stored])
  const isOver = isEnded(message) || told?.isOver === true
  const lastRun = parts.map((part) => part.type).lastIndexOf('run')
  return (
    <>
      {parts.map((part, i) => (
        <Piece key={`${part.type} ${i}`} part={part} parts={parts} isOver={isOver} isLast={i === lastRun} />
      ))}
      {saves.map((saved) =>
        saved.isNew ? (
          <p key={saved.workflowId}>
            <Link href={`/workflows/${saved.workflowId}`}>{said.openWorkflow}</Link>
          </p>
        ) : (
          <Change key={`${saved.workflowId} ${saved.to}`} saved={saved} />
        ),
      )}
      {message.failure && (
        <Trouble error={new Error([said.failures[message.failure], told?.trouble].filter(Boolean).join(' '))} />
      )}
      {isEnded(message) && message.usage && message.usage.requests > 0 && (
        <small className="quiet">{said.used(message.usage.requests, message.usage.calls, message.usage.costUsd)}</small>
      )}
    </>
  )
}

const plain = (message: Message): Part[] => (message.content ? [{ type: 'text', text: message.content }] : [])

type PieceProps = { part: Part; parts: Part[]; isOver: boolean; isLast: boolean }

function Piece({ part, parts, isOver, isLast }: PieceProps) {
  if (part.type === 'text')
    return (
      <p className="spoken" dir="auto">
        {part.text}
      </p>
    )
  if (part.type === 'run') return <Outcome runId={part.runId} mode={part.mode} isOpen={isLast} />
  if (part.type === 'approval') return <Asking question={part} />
  if (part.type !== 'tool_call') return null
  const result = parts.find((one) => one.type === 'tool_result' && one.callId === part.callId)
  const found = result?.type === 'tool_result' ? result : undefined
  const waits = parts.some((one) => one.type === 'approval' && one.callId === part.callId)
  const state = found ? (found.ok ? 'ok' : 'bad') : isOver ? 'cut' : waits ? 'open' : 'running'
  return <Step call={part} result={found} state={state} />
}
